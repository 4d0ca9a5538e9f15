"""Plot accuracy against cost (Fig. 3): python tools/analysis_tools/plot_tradeoff.py PICTURE.png.

Four panels show top-1 accuracy against GMAC, parameters, CPU time and GPU time. Without options the
accuracies and times are the paper's, and the picture says so.

    plot_tradeoff.py tradeoff.png --results FILE  # accuracies of your own runs
    plot_tradeoff.py tradeoff.png --speed FILE    # times of a benchmark
    plot_tradeoff.py tradeoff.png --counts FILE   # counts of paper_tables.py --json

mmcnnmod/analysis/measurements.py describes the format of these files.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# Read when torch is loaded, see tools/train.py.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

try:
    from count_configs import add_counting, count_all

    from mmcnnmod.analysis.counting import Count, read_counts
    from mmcnnmod.analysis.measurements import Setting, Speed, read_accuracies, read_speed
    from mmcnnmod.analysis.paper import PAPER_DEVICES, load_tables, read_numbers
    from mmcnnmod.analysis.tradeoff import Network, tradeoff
    from mmcnnmod.cli.errors import one_line_errors
    from mmcnnmod.errors import UserError
    from mmcnnmod.files import atomic_write, check_out
except ImportError as problem:
    sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')

TABLES = (1, 2, 7)  # with ImageNet accuracies


def main(argv: list[str] | None = None) -> None:
    """Draw the figure.

    Args:
        argv (list[str], optional): Command-line options. Defaults to None, those of the process.
    """
    args = parse(argv)
    with one_line_errors(args.debug):
        check_out(args.out)
        accuracies, source = accuracies_of(args)
        speed = read_speed(args.speed) if args.speed else None
        times = {device: times_of(args, speed, device) for device in PAPER_DEVICES}
        counts = counts_of(args, list(accuracies))
        networks = []
        for config, top1 in accuracies.items():
            count = counts[config]
            costs = {'macs': count.macs / 1e9, 'params': count.params / 1e6}
            for device, (values, _) in times.items():
                if config in values:
                    costs[device] = values[config]
            networks.append(Network(config, top1, costs))
        panels = {'macs': 'GMAC (counted)', 'params': 'parameters, M (counted)'}
        for device, (_, where) in times.items():
            panels[device] = f'{PAPER_DEVICES[device].upper()} ms, {where}'
        title = f'Accuracy against cost; accuracies: {source}'
        figure = tradeoff(networks, panels, title, 'top-1 accuracy (%)')
        with atomic_write(args.out) as partial:
            figure.savefig(partial, format='png', dpi=150)
        print(f'written to {args.out}')


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Draw accuracy against GMAC, parameters, CPU and GPU time (Fig. 3).'
    )
    add = parser.add_argument
    add('out', type=Path, help='the picture, a PNG file')
    add('--tables', type=int, nargs='+', choices=TABLES, default=[1, 7],
        help="networks and accuracies of these tables of the paper; by default 1 and 7, ResNet's"
        )  # fmt: skip
    add('--results', type=Path, nargs='+', metavar='FILE',
        help='networks and accuracies of your own runs instead: {"results": [{"config": NAME, '
        '"top1": PERCENT}, ...]}, or what experiments/run.py wrote')  # fmt: skip
    add('--speed', type=Path, metavar='FILE',
        help="times from this benchmark's JSON; the paper's for a device that is not in it"
        )  # fmt: skip
    add('--runtime', default='eager', help='which of its times: runtime; by default eager')
    add('--batch-size', type=int, default=1, metavar='N', help='batch size; by default 1')
    add('--dtype', default='float32', help='dtype; by default float32')
    add('--memory-format', default='contiguous', help='memory format; by default contiguous')
    add('--counts', type=Path, metavar='FILE',
        help='counts from the JSON of paper_tables.py --json; otherwise the models are built'
        )  # fmt: skip
    add_counting(parser)
    return parser.parse_args(argv)


def accuracies_of(args: argparse.Namespace) -> tuple[dict[str, float], str]:
    """Top-1 accuracies by config, and their source."""
    if not args.results:
        tables = [table for table in load_tables() if table.number in args.tables]
        numbers = ', '.join(str(table.number) for table in tables)
        printed = {row.config: float(row.printed['top1']) for table in tables for row in table.rows}
        return printed, f'as the paper prints them (Table{"s" * (len(tables) > 1)} {numbers})'
    accuracies = read_accuracies(args.results)
    sets = sorted({config.rpartition('_')[2] for config in accuracies})
    if len(sets) != 1:
        raise UserError(
            f'--results: accuracies on one data set compare, these are on {", ".join(sets) or "no"}'
        )
    return accuracies, f'own runs ({", ".join(path.name for path in args.results)})'


def times_of(
    args: argparse.Namespace, speed: Speed | None, device: str
) -> tuple[Mapping[str, float], str]:
    """Milliseconds on a device by config, measured or else the paper's, and their source."""
    setting = Setting(device, args.runtime, args.batch_size, args.dtype, args.memory_format)
    if speed and setting in speed.times:
        return speed.times[setting], f'{str(setting).partition(", ")[2]} ({speed.machine})'
    if speed and any(other.device == device for other in speed.times):
        raise UserError(
            f'{args.speed} has no times of "{setting}"; choose by --runtime, --batch-size, '
            f'--dtype and --memory-format from: {"; ".join(map(str, speed.times))}'
        )
    name = PAPER_DEVICES[device]
    rows = [row for table in load_tables() for row in table.rows]
    printed = {row.config: float(row.printed[f'{name}_ms']) for row in rows}
    return printed, f'as the paper prints it ({read_numbers()["speed_measured_on"][name]})'


def counts_of(args: argparse.Namespace, configs: list[str]) -> dict[str, Count]:
    """Counts by config, from the file or else from built models."""
    if not args.counts:
        return count_all(args.configs, configs, args.jobs)
    counts = read_counts(args.counts)
    for config in configs:
        if config not in counts:
            raise UserError(f'{args.counts} has no counts of {config}; leave out --counts')
    return counts


if __name__ == '__main__':
    main()
