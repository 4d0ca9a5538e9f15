"""The networks that a benchmark compares, and the training steps that it times."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from ..layers import MoDBlock
from .channel_usage import refuse_deployed
from .counting import detector_sample
from .paper import find_row


class Candidate(NamedTuple):
    """A network to compare.

    Attributes:
        config (str): Name of its config.
        bound (bool): Whether it is the config's skip bound: its MoD blocks replaced by identity.
    """

    config: str
    bound: bool = False

    def __str__(self) -> str:
        return f'{self.config}, skip bound' if self.bound else self.config


def skip_bound(model: nn.Module) -> nn.Module:
    """Copy a model with identity in place of its MoD blocks: the fastest MoD blocks possible.

    Raises:
        UserError: If the model was switched to deploy.
    """
    refuse_deployed(model)
    bound = deepcopy(model)
    for name, module in list(bound.named_modules()):
        if isinstance(module, MoDBlock):
            parent, _, key = name.rpartition('.')
            setattr(bound.get_submodule(parent), key, nn.Identity())
    return bound


def baseline_of(config: str) -> str | None:
    """The config to which a network's speed-up refers: the paper's choice, or its dense version.

    None for a dense network.
    """
    if row := find_row(config):
        return row.baseline
    dense = re.sub(r'-mod[^_]*', '', config)
    return None if dense == config else dense


def training_step(model: nn.Module, cfg: Config, images: Tensor, dtype: torch.dtype) -> Callable:
    """Prepare a training step on dummy labels: losses, gradients, SGD with momentum.

    Args:
        model (nn.Module): In training mode.
        cfg (Config): Its config.
        images (Tensor): Shape (N, 3, H, W), float32.
        dtype (torch.dtype): The dtype of automatic mixed precision; float32 turns it off.

    Returns:
        Callable[[], None]: The step.
    """
    samples = [labelled_sample(cfg.default_scope, tuple(images.shape[2:])) for _ in images]
    for sample in samples:
        sample.to(images.device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # A learning rate of 0, because repeated steps on the same batch could end in infinite values.
    optimizer = torch.optim.SGD(trained, lr=0.0, momentum=0.9)
    mixed = dtype != torch.float32

    def step() -> None:
        with torch.autocast(images.device.type, dtype if mixed else None, enabled=mixed):
            losses = model(images, samples, mode='loss')
        loss, _ = model.parse_losses(losses)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def labelled_sample(scope: str, size: tuple[int, int]) -> object:
    """A dummy label in a toolbox's format, with class 1 everywhere."""
    if scope == 'mmpretrain':
        from mmpretrain.structures import DataSample

        return DataSample().set_gt_label(1)
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample

        labels = PixelData(data=torch.ones(1, *size, dtype=torch.long))
        return SegDataSample(gt_sem_seg=labels, metainfo=dict(img_shape=size))
    sample = detector_sample(size)
    height, width = size
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.4, 0.2, 0.9, 0.9]])
    boxes = boxes * torch.tensor([width, height, width, height])
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.ones(2, dtype=torch.long))
    sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.ones(0).long())
    return sample
