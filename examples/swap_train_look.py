"""From a dense config to MoD, to a trained network, to a look at its selectors, on a CPU.

    python examples/swap_train_look.py

It needs mmpretrain, no data set, no weights and no GPU; it writes into work_dirs/example.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

# Read when torch is loaded, see tools/train.py.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
CLASSES = ('aeroplane', 'bicycle', 'bird', 'boat')  # what it draws


def main() -> None:
    """The five steps."""
    args = parse_args()
    work_dir = Path(args.work_dir).resolve()

    step(1, 'Pictures: four kinds of things, drawn')
    draw_pictures(work_dir / 'data', args)

    step(2, "Config: mmpretrain's own ResNet-18 for CIFAR, on these pictures")
    cfg = dense_config(work_dir / 'data', work_dir, args.epochs)
    print(f'model.backbone: {dict(cfg.model.backbone)}\nparameters: {parameters(cfg):,}')

    step(3, 'Swap: what swap_backbone changes')
    from mmcnnmod import swap_backbone
    from mmcnnmod.cli import train

    swap_backbone(cfg)
    print(f'parameters: {parameters(cfg):,}')

    step(4, f'Train and validate: {args.epochs} epochs; guessing gives {100 / len(CLASSES):.0f} %')
    # Two numbers for each MoD block, whenever the log is written: docs/channel_usage.md.
    cfg.custom_hooks = [dict(type='ChannelUsageHook', interval=cfg.default_hooks.logger.interval)]
    config = work_dir / 'resnet18-mod.py'
    cfg.dump(config)
    with redirect_stdout(LinesWith('Epoch(')):
        train.main([str(config)])  # as tools/train.py does

    step(5, 'Look: which channels the first MoD block of the third stage selects')
    checkpoint = work_dir / f'epoch_{args.epochs}.pth'
    run('analysis_tools/channel_usage.py', config, checkpoint, '--out-dir', work_dir)


def run(tool: str, *arguments) -> None:
    """Run a program of tools/; if it fails, so does the example."""
    done = subprocess.run([sys.executable, TOOLS / tool, *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def parse_args() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', default='work_dirs/example', help='where everything goes')
    parser.add_argument('--train', type=int, default=240, help='pictures to train on')
    parser.add_argument('--val', type=int, default=80, help='pictures to look at afterwards')
    parser.add_argument('--epochs', type=int, default=6, help='times that all are seen')
    return parser.parse_args()


def step(number: int, title: str) -> None:
    """Announce a step."""
    print(f'\n=== {number}/5 {title}', flush=True)


class LinesWith:
    """Prints only records with a text; the whole log, which is long, is in the work dir."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.out = sys.stdout

    def write(self, record: str) -> None:
        """Called once for each record of the log."""
        if self.text in record:
            self.out.write(record)

    def flush(self) -> None:
        """Part of what a stream has to offer."""
        self.out.flush()


def draw_pictures(folder: Path, args: argparse.Namespace) -> None:
    """Draw a data set in ImageNet's layout; what is there already is kept."""
    sizes = dict(size='64x64', classes=len(CLASSES), train=args.train, val=args.val)
    options = [word for name, value in sizes.items() for word in (f'--{name}', str(value))]
    run('dataset_tools/generate_data.py', 'imagenet', folder, *options)


def dense_config(data: Path, work_dir: Path, epochs: int):
    """The toolbox's config as it is installed, with other data and a shorter schedule."""
    from mmengine.hub import get_config

    cfg = get_config('mmpretrain::resnet/resnet18_8xb16_cifar10.py')
    cfg.work_dir = str(work_dir)
    cfg.model.head.update(num_classes=len(CLASSES), topk=(1,))
    cfg.data_preprocessor.update(num_classes=len(CLASSES), to_rgb=True)
    load = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32)]
    splits = dict(train=cfg.train_pipeline, val=cfg.test_pipeline, test=cfg.test_pipeline)
    for split, pipeline in splits.items():
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=16, num_workers=0)
        loader.dataset = dict(
            type='CustomDataset',
            data_root=str(data),
            data_prefix='train' if split == 'train' else 'val',
            metainfo=dict(classes=CLASSES),
            pipeline=load + pipeline,
        )
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.param_scheduler = dict(type='CosineAnnealingLR', T_max=epochs)
    cfg.optim_wrapper.optimizer.lr = 0.05
    cfg.default_hooks.logger.interval = 5
    cfg.randomness = dict(seed=0)
    return cfg


def parameters(cfg) -> int:
    """How many the model has."""
    from mmpretrain.registry import MODELS

    return sum(parameter.numel() for parameter in MODELS.build(cfg.model).parameters())


if __name__ == '__main__':
    main()
