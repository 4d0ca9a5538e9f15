"""What a warm start is worth, on CIFAR-10 in folders: python tools/misc/warm_start_cifar10.py DATA.

A dense ResNet-34 of a quarter of the width learns five classes. Its weights are converted and
tested as they are; then networks learn the other five classes from few images, from scratch or
from its weights. All by our tools; a run that is in the results already is not repeated, so this
can be interrupted.
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
CONFIG = 'configs/resnet18-mod_cifar10-folder.py'
CLASSES = 5  # for the dense source; the other five are for the comparison
WIDTH = 16
EPOCHS = {'source': 6, 'target': 6}
TRAIN_IMAGES = {'source': 2000, 'target': 300}  # per class
TEST_IMAGES = 400  # per class
PACKAGES = ('torch', 'mmengine', 'mmpretrain', 'mmcnnmod')
ACCURACY = re.compile(r'Epoch\((?:val|test)\) (?:\[(\d+)\])?.*?accuracy/top1: ([\d.]+)')

MODEL = [
    'model.backbone.depth=34',
    f'model.backbone.base_channels={WIDTH}',
    f'model.backbone.stem_channels={WIDTH}',
    f'model.head.in_channels={WIDTH * 8}',
    f'model.head.num_classes={CLASSES}',
    f'data_preprocessor.num_classes={CLASSES}',
]
RECIPE = [
    'train_cfg.max_epochs={epochs}',
    'train_cfg.val_interval=3',
    'optim_wrapper.optimizer.lr=0.05',
    'param_scheduler.milestones=[{milestone}]',
    'train_dataloader.batch_size=64',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'default_hooks.checkpoint.interval={epochs}',
    'randomness.seed={seed}',
]
DENSE = ['model.backbone.type=ResNet_CIFAR']
INIT = 'model.backbone.init_cfg'
LOAD = [*DENSE, f'{INIT}.type=Pretrained', f'{INIT}.checkpoint={{source}}']
WARM = [f'{INIT}.type=DensePretrained', f'{INIT}.checkpoint={{source}}']

# What is tested on the first five classes without training, as options of dense_to_mod.py.
CONVERSIONS = {
    'dense source': None,
    'MoD': ['--calibrate', '50'],
    'MoD, mapping same': ['--calibrate', '50', '--mapping', 'same'],
    'MoD, mapping spread': ['--calibrate', '50', '--mapping', 'spread'],
    'MoD, old norm statistics': [],
    'MoD, old norm statistics, strength 0.1': ['--strength', '0.1'],
    'MoD, old norm statistics, strength 1': ['--strength', '1'],
}
# What is trained on the other five, as options of tools/train.py.
# As mmdetection's configs freeze, and at a rate that norms which do not adapt can bear.
FREEZE = [
    'model.backbone.norm_eval=True',
    'model.backbone.frozen_stages=1',
    'optim_wrapper.optimizer.lr=0.01',
]
ARMS = {
    'dense, scratch': DENSE,
    'dense, warm': [*LOAD, f'{INIT}.prefix=backbone.'],
    'MoD, scratch': [],
    'MoD, warm': WARM,
    'MoD, warm, strength 0.1': [*WARM, f'{INIT}.strength=0.1'],
    'MoD, warm, mapping spread': [*WARM, f'{INIT}.mapping=spread'],
    'dense, warm, frozen': [*LOAD, f'{INIT}.prefix=backbone.', *FREEZE],
    'MoD, warm, frozen': [*WARM, *FREEZE],
    'MoD, warm, frozen, hook': [*WARM, *FREEZE, 'default_hooks.norms.type=ReestimateNormsHook'],
}


def main() -> None:
    """Run what is missing, then print the tables."""
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
    todo = [('source', 0), *((name, 0) for name in CONVERSIONS)]
    todo += [(arm, seed) for seed in args.seeds for arm in ARMS]
    for arm, seed in track([run for run in todo if run not in done], description='Running'):
        began = time.monotonic()
        run = convert(arm, work_dir) if arm in CONVERSIONS else train(arm, seed, work_dir)
        seconds = round(time.monotonic() - began)
        results['runs'].append(dict(arm=arm, seed=seed, **run, seconds=seconds))
        write(results, out)
    for table in tables(results['runs']):
        Console(width=100).print(table)


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
    """Train one network; gives its accuracies by epoch, and the command."""
    part = 'source' if arm == 'source' else 'target'
    epochs = EPOCHS[part]
    values = dict(
        epochs=epochs, milestone=epochs * 3 // 4, seed=seed, source=dense_source(work_dir)
    )
    options = [*MODEL, *RECIPE, *ARMS.get(arm, DENSE)]
    command = ['tools/train.py', CONFIG, '--data-root', work_dir / 'data' / part, '--work-dir',
               folder_of(arm, seed, work_dir), '--cfg-options',
               *(option.format(**values) for option in options)]  # fmt: skip
    output = run(command)
    accuracies = {epoch: float(top1) for epoch, top1 in ACCURACY.findall(output)}
    return dict(top1=accuracies, commands=[shown(command, work_dir)])


def convert(name: str, work_dir: Path) -> dict:
    """Convert the source, unless it is meant itself, and test it on its own classes."""
    folder = folder_of(name, 0, work_dir)
    folder.mkdir(exist_ok=True)
    commands = []
    checkpoint, options = dense_source(work_dir), [*MODEL, *DENSE]
    if CONVERSIONS[name] is not None:
        options = MODEL
        dense, checkpoint = checkpoint, folder / 'mod.pth'
        commands.append(['tools/model_converters/dense_to_mod.py', CONFIG, dense, checkpoint,
                         *CONVERSIONS[name], '--data-root', work_dir / 'data' / 'source',
                         '--cfg-options', 'train_dataloader.batch_size=64',
                         'train_dataloader.num_workers=0', *options])  # fmt: skip
    commands.append(['tools/test.py', CONFIG, checkpoint, '--data-root',
                     work_dir / 'data' / 'source', '--work-dir', folder, '--cfg-options',
                     'test_dataloader.num_workers=0', *options])  # fmt: skip
    output = [run(command) for command in commands][-1]
    top1 = float(ACCURACY.findall(output)[-1][1])
    return dict(top1={'0': top1}, commands=[shown(command, work_dir) for command in commands])


def run(command: list) -> str:
    """Run one of our tools; gives what it printed."""
    result = subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    output = result.stdout + result.stderr
    if result.returncode:
        sys.exit(f'{output[-2000:]}\nerror: {command[0]} failed')
    return output


def shown(command: list, work_dir: Path) -> str:
    """A command as a user would write it."""
    return ' '.join(['python', *map(str, command)]).replace(str(work_dir), 'WORK_DIR')


def folder_of(arm: str, seed: int, work_dir: Path) -> Path:
    """Where a run leaves its files."""
    return work_dir / f'{re.sub("[^a-z0-9.]+", "-", arm.lower())}-{seed}'


def dense_source(work_dir: Path) -> Path:
    """The checkpoint of the dense network."""
    return folder_of('source', 0, work_dir) / f'epoch_{EPOCHS["source"]}.pth'


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


def tables(runs: list[dict]) -> list[Table]:
    """The accuracies without training, and those by epoch: mean and deviation over the seeds."""
    start = Table('first five classes', 'top-1, without training')
    for name in CONVERSIONS:
        for run in runs:
            if run['arm'] == name:
                start.add_row(name, f'{run["top1"]["0"]:.1f}')
    epochs = [str(epoch) for epoch in range(3, EPOCHS['target'] + 1, 3)]
    trained = Table('other five classes', *(f'epoch {epoch}' for epoch in epochs), 'seeds')
    for arm in ARMS:
        top1 = [run['top1'] for run in runs if run['arm'] == arm]
        if top1:
            trained.add_row(arm, *(spread([t[e] for t in top1]) for e in epochs), str(len(top1)))
    return [start, trained]


def spread(values: list[float]) -> str:
    """Mean and sample deviation."""
    return f'{mean(values):.1f} ± {stdev(values):.1f}' if len(values) > 1 else f'{values[0]:.1f}'


if __name__ == '__main__':
    main()
