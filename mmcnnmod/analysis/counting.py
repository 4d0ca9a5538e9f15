"""Parameters and multiply-adds (MACs) of a config's network, counted on the built model.

Classifiers are counted by ptflops, segmentors and detectors by mmengine: these counters give the
digits of the paper's tables.
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
        params (int): Its parameters, without those of an auxiliary head, which only trains.
        macs (int): Multiply-adds of one image in eval mode.
        size (tuple[int, int]): Height and width of that image.
        counter (str): The counter of the MACs: 'ptflops' or 'mmengine'.
        relu_macs (int): How many of ``macs`` are second counts of a ReLU: ptflops counts an
            ``nn.ReLU`` as a module and once more as the function that it calls.
    """

    params: int
    macs: int
    size: tuple[int, int]
    counter: str
    relu_macs: int = 0


def read_counts(path: Path) -> dict[str, Count]:
    """Read the counts by config that `paper_tables.py --json` wrote; UserError if it has none."""
    found = {}
    for config, node in read_json(path, {'counts': dict})['counts'].items():
        check_fields(f'{path}: counts of {config}', node, COUNT_FIELDS)
        values = {name: node[name] for name in COUNT_FIELDS}
        found[config] = Count(**{**values, 'size': tuple(node['size'])})
    return found


def count_config(path: Path) -> Count:
    """Count the network of a config file as the paper does, at the size of :func:`input_size`.

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
    """Count a config's network with mmengine, for comparisons across toolboxes.

    Args:
        cfg (Config): With ``default_scope``.
        size (tuple[int, int]): Height and width of the image.
    """
    with built(cfg) as model:
        return Count(count_params(model), count_by_mmengine(model, size), size, 'mmengine')


@contextmanager
def built(cfg: Config) -> Iterator[nn.Module]:
    """A config's model, to be counted within."""
    # The counters and mmengine's log write to stdout, which is for results only.
    with (
        redirect_stdout(sys.stderr),
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        torch.no_grad(),
    ):
        yield build_model(cfg)


def build_model(cfg: Config) -> nn.Module:
    """The model of the config in whose default scope this is called, untrained and in eval mode."""
    torch.manual_seed(0)  # a detector's regions depend on its weights
    return revert_sync_batchnorm(MODELS.build(cfg.model)).eval()


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the images that a config is for.

    mmseg: what its data preprocessor crops or pads to. mmdet: the scale that the test images are
    resized to fit, in landscape. mmpretrain: the crop of the test images, or of the training images
    where those are not cropped (CIFAR).

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
    """All parameters but those of an auxiliary head (mmseg), as in Table 3."""
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not name.startswith('auxiliary_head.')
    )


def count_by_ptflops(model: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Multiply-adds by ptflops, and how many of them are second counts of ReLU modules."""
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
    """Multiply-adds (mmengine calls them FLOPs) of a segmentor, or of a detector with its regions.

    On random weights a Faster R-CNN keeps all 1000 regions that its test settings allow.
    """
    refuse_deployed(model)
    images = torch.rand(1, 3, *size)
    analyzer = FlopAnalyzer(with_samples(model, images), (images,))
    # The first two warnings would name the losses and RoIAlign, which have nothing to count.
    analyzer.uncalled_modules_warnings(False).unsupported_ops_warnings(False)
    return int(analyzer.tracer_warnings('none').total())


def with_samples(model: nn.Module, images: Tensor) -> nn.Module:
    """The model, changed in place so that a two-stage detector needs the images alone."""
    if hasattr(model, 'roi_head'):
        samples = [detector_sample(tuple(images.shape[2:])) for _ in images]
        model.forward = partial(model.forward, data_samples=samples)
    return model


def detector_sample(size: tuple[int, int]):
    """The metadata of an image that mmdet's detectors need."""
    from mmdet.structures import DetDataSample

    shapes = ('img_shape', 'batch_input_shape', 'pad_shape', 'ori_shape')
    return DetDataSample(metainfo=dict.fromkeys(shapes, size) | dict(scale_factor=(1, 1)))
