"""Parameters and multiply-adds (MACs) of a config's network, counted on the built model.

Classifiers are counted by ptflops, segmentors and detectors by mmengine: these counters give the
digits of the paper's tables.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.utils import to_2tuple
from torch import nn

from ..errors import UserError
from .channel_usage import refuse_deployed
from .files import check_fields, read_json

COUNT_FIELDS = dict(params=int, macs=int, size=list, counter=str, relu_macs=int)


@dataclass(frozen=True)
class Count:
    """What a network costs.

    Attributes:
        params (int): Its parameters, without those of an auxiliary head, which only trains.
        macs (int): Multiply-adds of one image in eval mode.
        size (tuple[int, int]): Height and width of that image.
        counter (str): Who counted the MACs: 'ptflops' or 'mmengine'.
        relu_macs (int): How many of ``macs`` are second counts of a ReLU: ptflops counts an
            ``nn.ReLU`` as a module and once more as the function that it calls.
    """

    params: int
    macs: int
    size: tuple[int, int]
    counter: str
    relu_macs: int = 0


def read_counts(path: Path) -> dict[str, Count]:
    """Read the counts that `tools/analysis_tools/paper_tables.py --json` wrote.

    Args:
        path (Path): The file.

    Returns:
        dict[str, Count]: By config.

    Raises:
        UserError: If there are none in it.
    """
    found = {}
    for config, count in read_json(path, {'counts': dict})['counts'].items():
        check_fields(f'{path}: counts of {config}', count, COUNT_FIELDS)
        values = {name: count[name] for name in COUNT_FIELDS}
        found[config] = Count(**{**values, 'size': tuple(count['size'])})
    return found


def count_config(path: Path) -> Count:
    """Build a config's model, without initialising its weights, and count it.

    Args:
        path (Path): A config of mmpretrain, mmseg or mmdet.

    Returns:
        Count: At the size that :func:`input_size` tells.

    Raises:
        UserError: If the config tells no toolbox or no size, or a counter fails.
    """
    cfg = Config.fromfile(path)
    if cfg.get('default_scope') is None:
        raise UserError('it has no default_scope; set mmpretrain, mmseg or mmdet')
    size = input_size(cfg)
    # The counters and mmengine's log write to stdout, which is for results.
    with (
        contextlib.redirect_stdout(sys.stderr),
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        torch.no_grad(),
    ):
        model = build_model(cfg)
        params = count_params(model)
        if cfg.default_scope == 'mmpretrain':
            macs, relu_macs = count_by_ptflops(model, size)
            return Count(params, macs, size, 'ptflops', relu_macs)
        return Count(params, count_by_mmengine(model, size), size, 'mmengine')


def count_alike(cfg: Config, size: tuple[int, int]) -> Count:
    """Count a config's network by mmengine, whichever its toolbox: for comparisons of networks.

    Args:
        cfg (Config): With ``default_scope``.
        size (tuple[int, int]): Height and width of the image.

    Returns:
        Count: Of its model.
    """
    with (
        contextlib.redirect_stdout(sys.stderr),
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        torch.no_grad(),
    ):
        model = build_model(cfg)
        return Count(count_params(model), count_by_mmengine(model, size), size, 'mmengine')


def build_model(cfg: Config) -> nn.Module:
    """A config's model in eval mode, on one device, as its constructor leaves the weights."""
    torch.manual_seed(0)  # a detector's regions depend on its weights
    registry = import_module(f'{cfg.default_scope}.registry')
    return revert_sync_batchnorm(registry.MODELS.build(cfg.model)).eval()


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the images that a config is for.

    mmseg: what its data preprocessor crops or pads to. mmdet: the scale that the test images are
    resized to fit, lying. mmpretrain: the crop of the test images, or of the training images where
    those are taken whole (CIFAR).

    Args:
        cfg (Config): The config.

    Returns:
        tuple[int, int]: Height and width.

    Raises:
        UserError: If the config says none of these.
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
    raise UserError('its pipelines tell no image size to count at')


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
    if hasattr(model, 'roi_head'):
        model.forward = partial(model.forward, data_samples=[detector_sample(size)])
    analyzer = FlopAnalyzer(model, (torch.rand(1, 3, *size),))
    # The first two would name the losses and RoIAlign, for which there is nothing to count.
    analyzer.uncalled_modules_warnings(False).unsupported_ops_warnings(False)
    return int(analyzer.tracer_warnings('none').total())


def detector_sample(size: tuple[int, int]):
    """What mmdet's detectors have to know about an image."""
    from mmdet.structures import DetDataSample

    shapes = ('img_shape', 'batch_input_shape', 'pad_shape', 'ori_shape')
    return DetDataSample(metainfo=dict.fromkeys(shapes, size) | dict(scale_factor=(1, 1)))
