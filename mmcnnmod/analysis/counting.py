"""Count the parameters and multiply-adds (MACs) of a config's network on the built model.

ptflops counts classifiers, mmengine counts segmentors and detectors: these counters reproduce the
numbers of the paper's tables.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from ..errors import UserError
from .channel_usage import refuse_deployed
from .files import check_fields, read_json

COUNT_FIELDS = dict(params=int, macs=int, size=list, counter=str, relu_macs=int)


@dataclass(frozen=True)
class Count:
    """The cost of a network.

    Attributes:
        params (int): Its parameters, without those of an auxiliary head, which is for training.
        macs (int): Multiply-adds for one image in eval mode.
        size (tuple[int, int]): Height and width of that image.
        counter (str): The counter of the MACs: 'ptflops' or 'mmengine'.
        relu_macs (int): How many of ``macs`` count a ReLU a second time: ptflops counts an
            ``nn.ReLU`` as a module and again as the function that it calls. Defaults to 0.
    """

    params: int
    macs: int
    size: tuple[int, int]
    counter: str
    relu_macs: int = 0


def read_counts(path: Path) -> dict[str, Count]:
    """Read the counts by config from a file of `paper_tables.py --json`.

    Raises:
        UserError: If it has no valid counts.
    """
    found = {}
    for config, node in read_json(path, {'counts': dict})['counts'].items():
        check_fields(f'{path}: counts of {config}', node, COUNT_FIELDS)
        values = {name: node[name] for name in COUNT_FIELDS}
        found[config] = Count(**{**values, 'size': tuple(node['size'])})
    return found


def count_config(path: Path) -> Count:
    """Count a config file's network as the paper does, at the size of :func:`input_size`.

    Raises:
        UserError: If the config has no toolbox or no image size, or a counter fails.
    """
    cfg = Config.fromfile(path)
    if cfg.get('default_scope') is None:
        raise UserError('it has no default_scope; set mmpretrain, mmseg or mmdet')
    size = input_size(cfg)
    if cfg.default_scope != 'mmpretrain':
        return count_alike(cfg, size)
    with built(cfg) as model:
        params = count_params(model)
        macs, relu_macs = count_by_ptflops(model, size)
    return Count(params, macs, size, 'ptflops', relu_macs)


def count_alike(cfg: Config, size: tuple[int, int]) -> Count:
    """Count a config's network with mmengine, to compare networks of different toolboxes.

    Args:
        cfg (Config): With ``default_scope``.
        size (tuple[int, int]): Height and width of the image.
    """
    with built(cfg) as model:
        return Count(count_params(model), count_by_mmengine(model, size), size, 'mmengine')


@contextmanager
def built(cfg: Config) -> Iterator[nn.Module]:
    """Context in which a config's model is counted."""
    # The counters and mmengine's log write to stdout, which is for results only.
    with (
        redirect_stdout(sys.stderr),
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        torch.no_grad(),
    ):
        yield build_model(cfg)


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model, untrained and in eval mode, in the current default scope."""
    torch.manual_seed(0)  # a detector's regions depend on its weights
    return revert_sync_batchnorm(MODELS.build(cfg.model)).eval()


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width of a config's images.

    mmseg: the size to which the data preprocessor crops or pads. mmdet: the scale of the test
    images, in landscape. mmpretrain: the crop of the test images, or of the training images if the
    test images are not cropped (CIFAR).

    Raises:
        UserError: If the config has none of these.
    """
    if cfg.default_scope == 'mmseg' and cfg.model.data_preprocessor.get('size'):
        return tuple(cfg.model.data_preprocessor.size)
    key = 'scale' if cfg.default_scope == 'mmdet' else 'crop_size'
    for loader in ('test_dataloader', 'train_dataloader'):
        dataset = cfg.get(loader, {}).get('dataset', {})
        for transform in reversed(dataset.get('pipeline', [])):
            if transform.get(key):
                size = to_2tuple(transform[key])
                return tuple(sorted(size)) if key == 'scale' else size
    raise UserError('its pipelines give no image size to count at')


def count_params(model: nn.Module) -> int:
    """The number of parameters without those of an auxiliary head (mmseg), as in Table 3."""
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not name.startswith('auxiliary_head.')
    )


def count_by_ptflops(model: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Count multiply-adds by ptflops, and how many of them count a ReLU module a second time."""
    try:
        from ptflops import get_model_complexity_info
    except ModuleNotFoundError as problem:
        raise UserError(f'{problem}; pip install ptflops==0.7.5') from problem

    refuse_deployed(model)
    relu_outputs = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda *args: relu_outputs.append(args[-1].numel()))
    macs, _ = get_model_complexity_info(
        model, (3, *size), as_strings=False, print_per_layer_stat=False, backend='pytorch'
    )
    if macs is None:
        raise UserError(f'ptflops could not run the model on a {size[0]}x{size[1]} image')
    return macs, sum(relu_outputs)


def count_by_mmengine(model: nn.Module, size: tuple[int, int]) -> int:
    """Count multiply-adds (which mmengine calls FLOPs) by mmengine.

    A Faster R-CNN with random weights keeps all 1000 regions that its test settings allow.
    """
    refuse_deployed(model)
    images = torch.rand(1, 3, *size)
    analyzer = FlopAnalyzer(with_samples(model, images), (images,))
    # The first two warnings are about the losses and RoIAlign, which have no multiply-adds.
    analyzer.uncalled_modules_warnings(False).unsupported_ops_warnings(False)
    return int(analyzer.tracer_warnings('none').total())


def with_samples(model: nn.Module, images: Tensor) -> nn.Module:
    """Change a two-stage detector in place so that its forward pass needs only the images."""
    if hasattr(model, 'roi_head'):
        samples = [detector_sample(tuple(images.shape[2:])) for _ in images]
        model.forward = partial(model.forward, data_samples=samples)
    return model


def detector_sample(size: tuple[int, int]):
    """The metadata of an image that mmdet's detectors need."""
    from mmdet.structures import DetDataSample

    shapes = ('img_shape', 'batch_input_shape', 'pad_shape', 'ori_shape')
    return DetDataSample(metainfo=dict.fromkeys(shapes, size) | dict(scale_factor=(1, 1)))
