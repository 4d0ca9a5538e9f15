"""Replace the backbone of a config by MoD, train it on a CPU, and show the selected channels.

    python examples/swap_train_look.py

It needs mmpretrain, but no data set, weights or GPU. It writes to work_dirs/example.
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
CLASSES = ('aeroplane', 'bicycle', 'bird', 'boat')  # the first that generate_data.py draws


def main() -> None:
    """Run the five steps."""
    args = parse_args()
    work_dir = Path(args.work_dir).resolve()

    step(1, 'Data: drawn images of four classes')
    draw_images(work_dir / 'data', args)

    step(2, "Config: mmpretrain's ResNet-18 for CIFAR, with these images")
    cfg = dense_config(work_dir / 'data', work_dir, args.epochs)
    print(f'model.backbone: {dict(cfg.model.backbone)}\nparameters: {count_parameters(cfg):,}')

    step(3, 'Swap: the changes of swap_backbone')
    from mmcnnmod import swap_backbone
    from mmcnnmod.cli import train

    swap_backbone(cfg)
    print(f'parameters: {count_parameters(cfg):,}')

    step(4, f'Train and validate: {args.epochs} epochs; guessing gives {100 / len(CLASSES):.0f} %')
    # It logs two numbers for each MoD block, see docs/channel_usage.md.
    cfg.custom_hooks = [dict(type='ChannelUsageHook', interval=cfg.default_hooks.logger.interval)]
    config = work_dir / 'resnet18-mod.py'
    cfg.dump(config)
    with redirect_stdout(FilteredOutput('Epoch(')):
        train.main([str(config)])  # as tools/train.py does

    step(5, 'Look: the channels that the first MoD block of the third stage selects')
    checkpoint = work_dir / f'epoch_{args.epochs}.pth'
    run('analysis_tools/channel_usage.py', config, checkpoint, '--out-dir', work_dir)


def run(tool: str, *arguments) -> None:
    """Run a program of tools/, and exit with its code if it fails."""
    done = subprocess.run([sys.executable, TOOLS / tool, *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', default='work_dirs/example', help='output folder')
    parser.add_argument('--train', type=int, default=240, help='number of training images')
    parser.add_argument('--val', type=int, default=80, help='number of validation images')
    parser.add_argument('--epochs', type=int, default=6, help='number of epochs')
    return parser.parse_args()


def step(number: int, title: str) -> None:
    """Print the title of a step."""
    print(f'\n=== {number}/5 {title}', flush=True)


class FilteredOutput:
    """Prints only the records that contain a text; the full log is in the work dir."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.out = sys.stdout

    def write(self, record: str) -> None:
        """Print a record of the log if it contains the text."""
        if self.text in record:
            self.out.write(record)

    def flush(self) -> None:
        """Flush the output; loggers call it."""
        self.out.flush()


def draw_images(folder: Path, args: argparse.Namespace) -> None:
    """Draw a data set in the layout of ImageNet, unless it already exists."""
    sizes = dict(size='64x64', classes=len(CLASSES), train=args.train, val=args.val)
    options = [word for name, value in sizes.items() for word in (f'--{name}', str(value))]
    run('dataset_tools/generate_data.py', 'imagenet', folder, *options)


def dense_config(data: Path, work_dir: Path, epochs: int):
    """The config in the installed toolbox, with other data and a shorter schedule."""
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


def count_parameters(cfg) -> int:
    """The number of parameters of a config's model."""
    from mmpretrain.registry import MODELS

    return sum(parameter.numel() for parameter in MODELS.build(cfg.model).parameters())


if __name__ == '__main__':
    main()
