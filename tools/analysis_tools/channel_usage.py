"""Count how often an MoD block selects each channel (Fig. 4).

python tools/analysis_tools/channel_usage.py CONFIG CHECKPOINT; docs/channel_usage.md explains it.
"""

from __future__ import annotations

import argparse
import os
import sys
from itertools import chain
from pathlib import Path
from random import Random

# Read when torch is loaded, see tools/train.py.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

try:
    import torch
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from rich.progress import track
    from torch import nn

    from mmcnnmod.analysis import ChannelUsage, mod_blocks, recorded_selections
    from mmcnnmod.analysis.usage_files import save_csv, save_picture
    from mmcnnmod.backbones import MoDBackbone
    from mmcnnmod.checkpoints import safe_loading
    from mmcnnmod.cli import preflight
    from mmcnnmod.cli.arguments import SHARED, add_cfg_options, add_shared, config_parser
    from mmcnnmod.cli.config import load_config
    from mmcnnmod.cli.errors import one_line_errors
    from mmcnnmod.cli.labelled_data import LabelledData, choose_classes, choose_split
    from mmcnnmod.cli.model import load_trained_model
    from mmcnnmod.datasets import draw_images
    from mmcnnmod.errors import UserError
    from mmcnnmod.layers import MoDBlock, RandomSelector
except ImportError as problem:
    sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')

ALL = 'all classes'


def main(argv: list[str] | None = None) -> None:
    """Count, and write the table and the picture.

    Args:
        argv (list[str], optional): Command-line options. Defaults to None, those of the process.
    """
    args = parse(argv)
    with one_line_errors(args.debug, args.config), safe_loading(args.trust_checkpoint):
        cfg = load_config(args)
        check(cfg, args)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            usage, interrupted = measure(cfg, args)
        report(usage, Path(cfg.work_dir))
    if interrupted:
        print('interrupted: the files contain the images counted so far', file=sys.stderr)
        sys.exit(130)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = config_parser(
        'Count how often an MoD block selects each of its channels, per class and over all; write '
        'a CSV and a picture like Fig. 4 of the paper.'
    )
    add = parser.add_argument
    add('--data', '--data-root', dest='data_root', **SHARED['--data-root'])
    add('--split', choices=['train', 'val', 'test'], default='val', help='default val')
    add('--block', metavar='NAME',
        help='such as layer3.1; by default the first MoD block of the third stage')  # fmt: skip
    add('--classes', nargs='+', metavar='CLASS',
        help='names or numbers of the classes to show; by default five spread over the list'
        )  # fmt: skip
    add('--samples-per-class', type=int, default=50, metavar='N',
        help="images drawn of each of the data set's classes; default 50, as in the paper"
        )  # fmt: skip
    add('--seed', type=int, default=0, help='for drawing the images; default 0')
    add('--out-dir', '--work-dir', dest='work_dir', metavar='DIR',
        help='folder of the CSV and the picture; default work_dirs/CONFIG')  # fmt: skip
    add_shared(parser, '--device')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def check(cfg: Config, args: argparse.Namespace) -> None:
    """Check the options and the data before the model is built."""
    if args.samples_per_class < 1:
        raise UserError(f'--samples-per-class {args.samples_per_class}: at least 1 is needed')
    preflight.check_device(cfg, args.device)
    preflight.check_work_dir(cfg)
    choose_split(cfg, args.split)
    preflight.check_data(cfg, ('test_dataloader',))


def measure(cfg: Config, args: argparse.Namespace) -> tuple[ChannelUsage, bool]:
    """Count the selections; also returns whether Ctrl-C interrupted the count."""
    model = load_trained_model(cfg, args)
    name, block = choose_block(model, args.block)
    data = LabelledData(cfg, args.config)
    drawn = draw_images(data.occurrences(), args.samples_per_class, args.seed)
    classes = choose_classes(args.classes, data.classes, list(drawn))

    # In random order, so that an interrupted count covers all classes.
    images = sorted(set().union(*drawn.values()))
    Random(args.seed).shuffle(images)
    groups = [set(images), *(set(drawn[i]) for i in classes)]
    members = torch.tensor([[image in group for group in groups] for image in images])
    names = [ALL, *(data.classes[i] for i in classes)]
    usage = ChannelUsage(name, block.in_channels, block.k, names)
    loader = data.loader(images)
    batches = zip(loader, members.split(loader.batch_size), strict=True)
    try:
        with recorded_selections(block) as selections, torch.no_grad():
            for batch, groups in track(batches, 'Counting', total=len(loader)):
                selections.clear()
                model.test_step(batch)
                usage.add(selections, groups)
    except KeyboardInterrupt:
        return usage, True
    return usage, False


def choose_block(model: nn.Module, name: str | None) -> tuple[str, MoDBlock]:
    """Find a block by name; by default the first of the third stage, or else of the network."""
    blocks = mod_blocks(model)
    if not blocks:
        raise UserError('this network has no MoD block; use the config of an MoD network')
    if name is None:
        backbones = [module for module in model.modules() if isinstance(module, MoDBackbone)]
        third_stages = chain.from_iterable(each.blocks_of_stages()[2:3] for each in backbones)
        third = (other for other in chain.from_iterable(third_stages) if other in blocks)
        name = next(third, next(iter(blocks)))
    name = name.removeprefix('backbone.')
    if name not in blocks:
        raise UserError(f'--block {name}: the MoD blocks are {", ".join(blocks)}')
    if isinstance(blocks[name].selector, RandomSelector):
        raise UserError(
            f"{name} selects at random (selection='random'): it has no learned selector to look at"
        )
    return name, blocks[name]


def report(usage: ChannelUsage, folder: Path) -> None:
    """Write both files and print a summary."""
    stem = folder / f'channel_usage_{usage.block}'
    for save, suffix in ((save_csv, '.csv'), (save_picture, '.png')):
        path = stem.with_name(stem.name + suffix)
        save(usage, path)
        print(f'written: {path}')
    for group, images, counts in zip(usage.groups, usage.images, usage.counts, strict=True):
        most, times = counts.sort(descending=True, stable=True).indices, int((counts > 0).sum())
        favourites = ', '.join(map(str, most[: min(5, times)].tolist()))
        print(
            f'{group} ({int(images)} images): {times} of {usage.channels} channels selected at '
            f'least once, most often {favourites}'
        )


if __name__ == '__main__':
    main()
