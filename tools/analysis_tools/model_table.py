"""Print parameters and MACs of the configs as a Markdown table, counted on the built models.

    python tools/analysis_tools/model_table.py                      # the paper's networks
    python tools/analysis_tools/model_table.py CONFIG [CONFIG ...]
    python tools/analysis_tools/model_table.py --write README.md    # between the two marks in it

Classifiers are counted by ptflops, which reproduces the digits of the paper's tables; FCN at
512x1024 without the auxiliary head and Faster R-CNN at 600x1000 by mmengine.
"""

from __future__ import annotations

import argparse
import re
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from ptflops import get_model_complexity_info as count_as_the_paper
from torch import nn

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PAPER = ('resnet*_in1k.py', 'fcn_*_cityscapes.py', 'faster-rcnn_*_voc0712.py')
BEGIN, END = '<!-- models: written by tools/analysis_tools/model_table.py -->', '<!-- /models -->'


def main() -> None:
    """Print the table or write it into a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', type=Path, help="by default the paper's networks")
    parser.add_argument('--write', type=Path, metavar='FILE', help='put the table into this file')
    args = parser.parse_args()
    paths = args.configs or [
        path for glob in PAPER for path in sorted(CONFIGS.glob(glob), key=by_depth)
    ]
    lines = [
        f'Counted by ptflops {version("ptflops")} (ImageNet classifiers, 224x224) and by mmengine '
        '(FCN, 512x1024,',
        'without the auxiliary head; Faster R-CNN, 600x1000).',
        '',
        '| config | parameters (M) | GMAC |',
        '|---|---|---|',
    ]
    for path in paths:
        lines.append(row(path))
        print(lines[-1], flush=True)
    if args.write:
        write('\n'.join(lines), args.write)


def by_depth(path: Path) -> tuple[int, str]:
    """Sort key: the number in a config's name, so that 18 comes before 101."""
    return int(re.search(r'r(?:esnet)?(\d+)', path.stem)[1]), path.stem


def row(path: Path) -> str:
    """One line of the table."""
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.no_grad():
        registry = import_module(f'{cfg.default_scope}.registry')
        model = revert_sync_batchnorm(registry.MODELS.build(cfg.model)).eval()
        macs = COUNTERS[cfg.default_scope](model)
    params = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not name.startswith('auxiliary_head.')
    )
    link = f'[{path.stem}](configs/{path.name})'
    return f'| {link} | {params / 1e6:.2f} | {macs / 1e9:.2f} |'


def count_classifier(model: nn.Module) -> float:
    """Multiply-adds at 224x224."""
    macs, _ = count_as_the_paper(
        model, (3, 224, 224), as_strings=False, print_per_layer_stat=False, backend='pytorch'
    )
    return macs


def count_segmentor(model: nn.Module) -> float:
    """Multiply-adds at 512x1024."""
    return count_by_mmengine(model, (3, 512, 1024))


def count_detector(model: nn.Module) -> float:
    """Multiply-adds at 600x1000, with as many regions as the model keeps."""
    from mmdet.structures import DetDataSample

    size = (600, 1000)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=size,
            batch_input_shape=size,
            pad_shape=size,
            ori_shape=size,
            scale_factor=(1, 1),
        )
    )
    model.forward = partial(model.forward, data_samples=[sample])
    return count_by_mmengine(model, (3, *size))


def count_by_mmengine(model: nn.Module, shape: tuple[int, ...]) -> float:
    """What mmengine calls FLOPs are multiply-adds."""
    return get_model_complexity_info(model, shape, show_table=False, show_arch=False)['flops']


COUNTERS = {'mmpretrain': count_classifier, 'mmseg': count_segmentor, 'mmdet': count_detector}


def write(table: str, path: Path) -> None:
    """Put the table between the marks of a file."""
    text = path.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f'{before}{BEGIN}\n{table}\n{END}{after}')


if __name__ == '__main__':
    main()
