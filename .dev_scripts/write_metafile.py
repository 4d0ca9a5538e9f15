"""Write the model index, configs/metafile-*.yml, from configs and counts of their models.

MIM reads all of these files by model-index.yml; mmpretrain's model hub reads its own.

    python .dev_scripts/write_metafile.py                    # all configs (some minutes)
    python .dev_scripts/write_metafile.py CONFIG [...]       # only these
    python .dev_scripts/write_metafile.py [CONFIG ...] --check   # only list the stale entries

After an interruption, the entries that were finished are written.
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
# The tasks of the toolboxes' models, with the names of their own model indexes.
TASKS = {
    'mmpretrain': 'Image Classification',
    'mmseg': 'Semantic Segmentation',
    'mmdet': 'Object Detection',
}
METAFILES = {toolbox: CONFIGS / f'metafile-{toolbox}.yml' for toolbox in TASKS}
HEADER = """\
# Written by .dev_scripts/write_metafile.py.
# FLOPs: multiply-adds of one image through the whole model in eval mode, counted by
# mmengine.analysis ({counter}).
# Image sizes: 224x224 for ImageNet, 32x32 for CIFAR, 600x1000 for VOC (with up to 1000 regions),
# 512x1024 for Cityscapes, and for the small configs that of the crop or of the resized image.
# Parameters: those of the whole model, for FCN without the auxiliary head, as in Table 3.
# No model has been trained yet, so there are neither weights nor metrics.
"""
PAPER = {'Title': 'CNN Mixture-of-Depths', 'URL': 'https://arxiv.org/abs/2409.17016'}
COLLECTIONS = ('CNN-MoD', 'CNN-MoD-Baseline')
# The names of the datasets by the folder of their data.
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
# Where it differs from the training data.
TEST_DATA = {'VOCdevkit': 'Pascal VOC 2007'}
BACKBONES = ('ResNet', 'MobileNetV2', 'VGG', 'ConvNeXt')
METHODS = {'FCNHead': ['FCN'], 'FasterRCNN': ['FPN', 'Faster R-CNN']}


def main() -> None:
    """Write or check; exit code 1 if an entry is stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', type=Path, help='by default all')
    parser.add_argument('--check', action='store_true', help='only list the stale entries')
    args = parser.parse_args()
    with one_line_errors():
        update(args.configs or sorted(CONFIGS.glob('*.py')), args.check)


def update(configs: list[Path], check: bool) -> None:
    """Make the entries of the configs, then write or check the files."""
    written = read_entries()
    names = {path.stem for path in CONFIGS.glob('*.py')}
    for path in configs:
        if path.stem not in names:
            raise UserError(f'{path} is not in {CONFIGS}; the model index only has those configs')
    entries = {name: entry for name, entry in written.items() if name in names}
    try:
        for path in track(configs, 'counting', console=Console(stderr=True)):
            with building_from(f'config {path}'):
                entries[path.stem] = make_entry(path)
    finally:
        if not check:
            write_entries(entries)
    if not check:
        print(f'{len(entries)} entries in', *METAFILES.values(), sep='\n')
    elif stale := sorted(n for n in entries | written if entries.get(n) != written.get(n)):
        print('\n'.join(f'{name} is stale' for name in stale))
        sys.exit('error: run .dev_scripts/write_metafile.py to update them')


def read_entries() -> dict[str, dict]:
    """The entries in all existing files, by name."""
    texts = [path.read_text() for path in METAFILES.values() if path.exists()]
    return {entry['Name']: entry for text in texts for entry in yaml.safe_load(text)['Models']}


def make_entry(path: Path) -> dict:
    """The entry of a config."""
    cfg = Config.fromfile(path)
    mod = 'MoD' in cfg.model.backbone.type
    data = Path(cfg.data_root).name
    if data not in TRAINING_DATA:
        raise UserError(f'add the dataset in {data}/ to TRAINING_DATA in {__file__}')
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
            # The last digits depend on the version of the counter.
            'FLOPs': round(flops, -6),
            'Parameters': params,
        },
        # The hub selects the inferencer by the task.
        'Results': [
            {
                'Task': TASKS[cfg.default_scope],
                'Dataset': TEST_DATA.get(data, TRAINING_DATA[data]),
                'Metrics': {},
            }
        ],
    }


def architecture(cfg: Config) -> list[str]:
    """The names of the parts of a config's network."""
    kind = cfg.model.backbone.type
    (backbone,) = [name for name in BACKBONES if kind.startswith(name)]
    parts = ['Mixture-of-Depths', backbone] if 'MoD' in kind else [backbone]
    return parts + METHODS.get(cfg.model.get('decode_head', cfg.model).type, [])


class IndentedDumper(yaml.SafeDumper):
    """Indents the items of lists."""

    def increase_indent(self, flow=False, indentless=False):
        """Ignore ``indentless``."""
        return super().increase_indent(flow, False)


def write_entries(entries: dict[str, dict]) -> None:
    """Write the file of each toolbox."""
    distribution = packages_distributions()['mmengine'][0]
    header = HEADER.format(counter=f'{distribution} {version(distribution)}')
    for toolbox, path in METAFILES.items():
        models = [entry for _, entry in sorted(entries.items())]
        content = {
            'Collections': [{'Name': name, 'Paper': dict(PAPER)} for name in COLLECTIONS],
            'Models': [m for m in models if m['Results'][0]['Task'] == TASKS[toolbox]],
        }
        with atomic_write(path) as partial:
            partial.write_text(header + yaml.dump(content, Dumper=IndentedDumper, sort_keys=False))


if __name__ == '__main__':
    main()
