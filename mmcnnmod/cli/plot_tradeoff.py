"""tools/analysis_tools/plot_tradeoff.py: accuracy against GMAC, parameters and time (Fig. 3)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from ..analysis.counting import Count, read_counts
from ..analysis.files import check_folder
from ..analysis.measurements import Setting, Speed, read_accuracies, read_speed
from ..analysis.paper import Table, load_tables, speed_machine
from ..analysis.tradeoff import Network, tradeoff
from ..checkpoints import atomic_write
from ..errors import UserError
from .counting import config_folder, count_all
from .errors import one_line_errors

# The tables with ImageNet accuracies.
TABLES = (1, 2, 7)
# The device's name in a benchmark's JSON, in the paper's tables and in the plot.
DEVICES = (('cpu', 'cpu', 'CPU'), ('cuda', 'gpu', 'GPU'))

# Milliseconds by config, and where they are from.
Times = tuple[Mapping[str, float], str]


def main(argv: list[str] | None = None) -> None:
    """Draw as the command line says.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
    args = parse(argv)
    with one_line_errors(args.debug):
        check_folder(args.out)
        tables = [table for table in load_tables() if table.number in args.tables]
        accuracies, source = accuracies_of(args, tables)
        speed = read_speed(args.speed) if args.speed else None
        times = {paper: times_of(args, speed, device, paper) for device, paper, _ in DEVICES}
        counts = counts_of(args, list(accuracies))
        networks = [
            Network(config, top1, costs(config, counts[config], times))
            for config, top1 in accuracies.items()
        ]
        panels = {
            'macs': 'GMAC (counted)',
            'params': 'parameters, M (counted)',
            **{paper: f'{name} ms, {times[paper][1]}' for _, paper, name in DEVICES},
        }
        title = f'Accuracy against cost; accuracies: {source}'
        figure = tradeoff(networks, panels, title, 'top-1 accuracy (%)')
        with atomic_write(args.out) as partial:
            figure.savefig(partial, format='png', dpi=150)
        print(f'written to {args.out}')


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description='Draw accuracy against GMAC, parameters, CPU and GPU time (Fig. 3).'
    )
    add = parser.add_argument
    add('out', type=Path, help='the picture, a PNG file')
    add(
        '--tables',
        type=int,
        nargs='+',
        choices=TABLES,
        default=[1, 7],
        help="networks and accuracies of these tables of the paper; by default 1 and 7, ResNet's",
    )
    add(
        '--results',
        type=Path,
        nargs='+',
        metavar='FILE',
        help='networks and accuracies of your own runs instead: '
        '{"results": [{"config": NAME, "top1": PERCENT}, ...]}, or what experiments/run.py wrote',
    )
    add(
        '--speed',
        type=Path,
        metavar='FILE',
        help="times from this benchmark's JSON; the paper's for a device that is not in it",
    )
    add('--runtime', default='eager', help='which of its times: runtime; by default eager')
    add('--batch-size', type=int, default=1, metavar='N', help='batch size; by default 1')
    add('--dtype', default='float32', help='dtype; by default float32')
    add('--memory-format', default='contiguous', help='memory format; by default contiguous')
    add(
        '--counts',
        type=Path,
        metavar='FILE',
        help='counts from the JSON of paper_tables.py --json; otherwise the models are built',
    )
    add(
        '--configs',
        type=Path,
        metavar='DIR',
        default=config_folder(),
        help='where the configs are; by default those of the project',
    )
    add('--jobs', type=int, metavar='N', help='processes; by default one per CPU, at most 4')
    add('--debug', action='store_true', help='show the traceback of an error as well')
    return parser.parse_args(argv)


def accuracies_of(args: argparse.Namespace, tables: list[Table]) -> tuple[dict[str, float], str]:
    """Top-1 by config, and where it is from."""
    if not args.results:
        numbers = ', '.join(str(table.number) for table in tables)
        rows = [row for table in tables for row in table.rows]
        return (
            {row.config: float(row.printed['top1']) for row in rows},
            f'as the paper prints them (Table{"s" if len(tables) > 1 else ""} {numbers})',
        )
    accuracies = read_accuracies(args.results)
    sets = sorted({config.rpartition('_')[2] for config in accuracies})
    if len(sets) != 1:
        raise UserError(
            f'--results: accuracies on one data set compare, these are on {", ".join(sets) or "no"}'
        )
    return accuracies, f'own runs ({", ".join(path.name for path in args.results)})'


def times_of(
    args: argparse.Namespace, speed: Speed | None, device: str, paper_device: str
) -> Times:
    """Milliseconds of a device by config: measured, or else the paper's."""
    setting = Setting(device, args.runtime, args.batch_size, args.dtype, args.memory_format)
    if speed and setting in speed.times:
        return speed.times[setting], f'{str(setting).partition(", ")[2]} ({speed.machine})'
    if speed and any(other.device == device for other in speed.times):
        raise UserError(
            f'{args.speed} has no times of "{setting}"; choose by --runtime, --batch-size, '
            f'--dtype and --memory-format from: {"; ".join(map(str, speed.times))}'
        )
    rows = [row for table in load_tables() for row in table.rows]
    printed = {row.config: float(row.printed[f'{paper_device}_ms']) for row in rows}
    return printed, f'as the paper prints it ({speed_machine()[paper_device]})'


def counts_of(args: argparse.Namespace, configs: list[str]) -> dict[str, Count]:
    """Counts by config, read or from built models."""
    if not args.counts:
        return count_all(args.configs, configs, args.jobs)
    counts = read_counts(args.counts)
    for config in configs:
        if config not in counts:
            raise UserError(f'{args.counts} has no counts of {config}; leave out --counts')
    return counts


def costs(config: str, count: Count, times: Mapping[str, Times]) -> dict[str, float]:
    """What a network costs, by panel."""
    found = {device: values[config] for device, (values, _) in times.items() if config in values}
    return {'macs': count.macs / 1e9, 'params': count.params / 1e6, **found}
