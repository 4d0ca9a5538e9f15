"""What a warm start is worth, on CIFAR-10 in folders: python tools/misc/warm_start_cifar10.py DATA.

A dense ResNet-34 of a quarter of the width learns five classes. Then networks learn the other
five from a tenth of the images, from scratch or from its weights. All by tools/train.py; a run that
is in the results already is not repeated, so this can be interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from datetime import date
from importlib import import_module
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'resnet18-mod_cifar10-folder.py'
CLASSES = 5  # for the dense source; the other five are for the comparison
WIDTH = 16
EPOCHS = {'source': 6, 'target': 8}
TRAIN_IMAGES = {'source': 2000, 'target': 300}  # per class
TEST_IMAGES = 400  # per class
PACKAGES = ('torch', 'mmengine', 'mmpretrain', 'mmcnnmod')
ACCURACY = re.compile(r'Epoch\(val\) \[(\d+)\].*?accuracy/top1: ([\d.]+)')

DENSE = ['model.backbone.type=ResNet_CIFAR']
WARM = [
    'model.backbone.init_cfg.type=DensePretrained',
    'model.backbone.init_cfg.checkpoint={source}',
]
# What is trained on the second five classes, as options of tools/train.py.
ARMS = {
    'dense, scratch': DENSE,
    'dense, warm': [
        *DENSE,
        'model.backbone.init_cfg.type=Pretrained',
        'model.backbone.init_cfg.checkpoint={source}',
        'model.backbone.init_cfg.prefix=backbone.',
    ],
    'MoD, scratch': [],
    'MoD, warm': WARM,
    'MoD, warm, strength 1': [*WARM, 'model.backbone.init_cfg.strength=1'],
    'MoD, warm, strength 0.01': [*WARM, 'model.backbone.init_cfg.strength=0.01'],
    'MoD, warm, mapping first': [*WARM, 'model.backbone.init_cfg.mapping=first'],
    'MoD, warm, mapping same': [*WARM, 'model.backbone.init_cfg.mapping=same'],
}


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data', help='CIFAR-10 as {train,test}/<class>/<image>')
    parser.add_argument('--work-dir', default='work_dirs/warm_start_cifar10')
    parser.add_argument('--json', default='docs/results/warm_start_cifar10.json')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    args = parser.parse_args()

    work_dir, out = Path(args.work_dir).resolve(), Path(args.json)
    link_images(Path(args.data).resolve(), work_dir)
    results = json.loads(out.read_text()) if out.exists() else dict(about=about(), runs=[])
    done = {(run['arm'], run['seed']) for run in results['runs']}
    todo = [('source', 0), *((arm, seed) for seed in args.seeds for arm in ARMS)]
    for arm, seed in track([run for run in todo if run not in done], description='Training'):
        results['runs'].append(train(arm, seed, work_dir))
        write(results, out)
    Console(width=100).print(table(results['runs']))


def link_images(data: Path, work_dir: Path) -> None:
    """Make a folder of links for the first five classes and one for the others."""
    classes = sorted(path.name for path in (data / 'train').iterdir())
    for part, names in (('source', classes[:CLASSES]), ('target', classes[CLASSES:])):
        for split, images in (('train', TRAIN_IMAGES[part]), ('test', TEST_IMAGES)):
            for name in names:
                folder = work_dir / 'data' / part / split / name
                folder.mkdir(parents=True, exist_ok=True)
                for image in sorted((data / split / name).iterdir())[:images]:
                    link = folder / image.name
                    if not link.is_symlink():
                        link.symlink_to(image)


def train(arm: str, seed: int, work_dir: Path) -> dict:
    """Train one network; gives its accuracies by epoch and the command."""
    part = 'source' if arm == 'source' else 'target'
    epochs = EPOCHS[part]
    folder = work_dir / f'{re.sub("[^a-z0-9.]+", "-", arm.lower())}-{seed}'
    source = work_dir / 'source-0' / f'epoch_{EPOCHS["source"]}.pth'
    options = [
        'model.backbone.depth=34',
        f'model.backbone.base_channels={WIDTH}',
        f'model.backbone.stem_channels={WIDTH}',
        f'model.head.in_channels={WIDTH * 8}',
        f'model.head.num_classes={CLASSES}',
        f'data_preprocessor.num_classes={CLASSES}',
        f'train_cfg.max_epochs={epochs}',
        'train_cfg.val_interval=2',
        'optim_wrapper.optimizer.lr=0.05',
        f'param_scheduler.milestones=[{epochs * 3 // 4}]',
        'train_dataloader.batch_size=64',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        f'default_hooks.checkpoint.interval={epochs}',
        f'randomness.seed={seed}',
        *(option.format(source=source) for option in (ARMS.get(arm) or DENSE * (part == 'source'))),
    ]
    command = ['tools/train.py', str(CONFIG.relative_to(ROOT)), '--data-root',
               str(work_dir / 'data' / part), '--work-dir', str(folder), '--cfg-options',
               *options]  # fmt: skip
    began = time.monotonic()
    result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f'{result.stderr[-2000:]}\nerror: {arm}, seed {seed}: training failed')
    accuracies = {
        int(epoch): float(top1) for epoch, top1 in ACCURACY.findall(result.stderr + result.stdout)
    }
    return dict(
        arm=arm,
        seed=seed,
        top1=accuracies,
        seconds=round(time.monotonic() - began),
        command=' '.join(['python', *command]).replace(str(work_dir), 'WORK_DIR'),
    )


def about() -> dict:
    """Where and with what the runs were made."""
    return dict(
        date=date.today().isoformat(),
        machine=f'{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}',
        versions={name: import_module(name).__version__ for name in PACKAGES},
    )


def write(results: dict, out: Path) -> None:
    """Write the results; a file that is there is a whole one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f'.partial-{out.name}')
    partial.write_text(json.dumps(results, indent=1) + '\n')
    partial.replace(out)


def table(runs: list[dict]) -> Table:
    """Mean and deviation over the seeds, by epoch."""
    epochs = [str(epoch) for epoch in range(2, EPOCHS['target'] + 1, 2)]
    shown = Table('network', *(f'epoch {epoch}' for epoch in epochs), 'seeds')
    for arm in ARMS:
        top1 = [{str(e): v for e, v in run['top1'].items()} for run in runs if run['arm'] == arm]
        if top1:
            shown.add_row(arm, *(spread([t[e] for t in top1]) for e in epochs), str(len(top1)))
    return shown


def spread(values: list[float]) -> str:
    """Mean and sample deviation."""
    return f'{mean(values):.1f} ± {stdev(values):.1f}' if len(values) > 1 else f'{values[0]:.1f}'


if __name__ == '__main__':
    main()
