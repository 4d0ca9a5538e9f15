"""Write configs/metafile-*.yml, the model index: counts of built models, facts of configs.

MIM reads all of them by model-index.yml, mmpretrain's model hub reads its own.

    python .dev_scripts/write_metafile.py                    # every config (some minutes)
    python .dev_scripts/write_metafile.py CONFIG [...]       # these only
    python .dev_scripts/write_metafile.py [CONFIG ...] --check   # name what is stale

It can be interrupted: what was counted by then is written.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.progress import track

import mmcnnmod  # noqa: F401  (registers the backbones)
from mmcnnmod.analysis.counting import build_model, count_by_mmengine, count_params, input_size
from mmcnnmod.cli.errors import building_from, one_line_errors
from mmcnnmod.errors import UserError
from mmcnnmod.files import atomic_write

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
# What each toolbox's models do, in the words of its own model index.
TASKS = {
    'mmpretrain': 'Image Classification',
    'mmseg': 'Semantic Segmentation',
    'mmdet': 'Object Detection',
}
METAFILES = {toolbox: CONFIGS / f'metafile-{toolbox}.yml' for toolbox in TASKS}
HEADER = """\
# Written by .dev_scripts/write_metafile.py.
# FLOPs: multiply-adds of one image through the whole model in eval mode, counted by
# mmengine.analysis ({counter}): 3x224x224 for ImageNet, 3x32x32 for CIFAR,
# 3x600x1000 for VOC (with up to 1000 regions), 3x512x1024 for Cityscapes, and what the small ones
# crop or resize to. Parameters: all of the model; FCN without the auxiliary head, as in Table 3.
# Neither weights nor metrics: nothing here has been trained yet.
"""
PAPER = {'Title': 'CNN Mixture-of-Depths', 'URL': 'https://arxiv.org/abs/2409.17016'}
COLLECTIONS = ('CNN-MoD', 'CNN-MoD-Baseline')
# By the folder of the data (the backbones, below, by the first letters of a type).
TRAINING_DATA = {
    'imagenet': 'ImageNet-1k',
    'cifar10': 'CIFAR-10',
    'cifar100': 'CIFAR-100',
    'cityscapes': 'Cityscapes',
    'VOCdevkit': 'Pascal VOC 2007 + 2012',
    'camvid': 'CamVid',
    'bccd': 'BCCD',
    'street-scenes': 'Generated street scenes',
}
# Where the models are tested on a part of the training data's sources.
TEST_DATA = {'VOCdevkit': 'Pascal VOC 2007'}
BACKBONES = ('ResNet', 'MobileNetV2', 'VGG', 'ConvNeXt')
METHODS = {'FCNHead': ['FCN'], 'FasterRCNN': ['FPN', 'Faster R-CNN']}


def main() -> None:
    """Write or check; exit code 1 if an entry is stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', type=Path, help='by default all')
    parser.add_argument('--check', action='store_true', help='only name the stale entries')
    args = parser.parse_args()
    with one_line_errors():
        run(args.configs or sorted(CONFIGS.glob('*.py')), args.check)


def run(configs: list[Path], check: bool) -> None:
    """Count the configs, then write or check the files."""
    written = read_entries()
    names = {path.stem for path in CONFIGS.glob('*.py')}
    for path in configs:
        if path.stem not in names:
            raise UserError(f'{path} is none of {CONFIGS}/*.py, which the model index is about')
    entries = {name: entry for name, entry in written.items() if name in names}
    console = Console(stderr=True)
    try:
        for path in track(configs, 'counting', console=console):
            with building_from(f'config {path}'):
                entries[path.stem] = make_entry(path)
    finally:
        if not check:
            write_entries(entries)
    if not check:
        print(f'{len(entries)} entries in', *METAFILES.values(), sep='\n')
    elif stale := sorted(n for n in entries | written if entries.get(n) != written.get(n)):
        print('\n'.join(f'{name} is stale' for name in stale))
        sys.exit('error: write them with .dev_scripts/write_metafile.py')


def read_entries() -> dict[str, dict]:
    """The entries of all files by name, none of a file that is not there."""
    texts = [path.read_text() for path in METAFILES.values() if path.exists()]
    return {entry['Name']: entry for text in texts for entry in yaml.safe_load(text)['Models']}


def make_entry(path: Path) -> dict:
    """The entry of a config."""
    cfg = Config.fromfile(path)
    mod = 'MoD' in cfg.model.backbone.type
    data = Path(cfg.data_root).name
    if data not in TRAINING_DATA:
        raise UserError(f'name the data of {data}/ in TRAINING_DATA of {__file__}')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.no_grad():
        model = build_model(cfg)
        params = count_params(model)
        flops = count_by_mmengine(model, input_size(cfg))
    return {
        'Name': path.stem,
        'In Collection': 'CNN-MoD' if mod else 'CNN-MoD-Baseline',
        'Config': f'configs/{path.name}',
        'Metadata': {
            'Training Data': TRAINING_DATA[data],
            'Architecture': architecture(cfg),
            # The last digits differ with the version of the counter.
            'FLOPs': round(flops, -6),
            'Parameters': params,
        },
        # The hub looks here for the task, and so for the inferencer.
        'Results': [
            {
                'Task': TASKS[cfg.default_scope],
                'Dataset': TEST_DATA.get(data, TRAINING_DATA[data]),
                'Metrics': {},
            }
        ],
    }


def architecture(cfg: Config) -> list[str]:
    """The parts of a config's network by name."""
    kind = cfg.model.backbone.type
    (backbone,) = [name for name in BACKBONES if kind.startswith(name)]
    parts = ['Mixture-of-Depths', backbone] if 'MoD' in kind else [backbone]
    return parts + METHODS.get(cfg.model.get('decode_head', cfg.model).type, [])


class Indented(yaml.SafeDumper):
    """Indents the items of a list below its key."""

    def increase_indent(self, flow=False, indentless=False):
        """Never without an indent."""
        return super().increase_indent(flow, False)


def write_entries(entries: dict[str, dict]) -> None:
    """Write each toolbox's file."""
    distribution = packages_distributions()['mmengine'][0]
    header = HEADER.format(counter=f'{distribution} {version(distribution)}')
    for toolbox, path in METAFILES.items():
        models = [entry for _, entry in sorted(entries.items())]
        content = {
            'Collections': [{'Name': name, 'Paper': dict(PAPER)} for name in COLLECTIONS],
            'Models': [m for m in models if m['Results'][0]['Task'] == TASKS[toolbox]],
        }
        with atomic_write(path) as partial:
            partial.write_text(header + yaml.dump(content, Dumper=Indented, sort_keys=False))


if __name__ == '__main__':
    main()
