"""tools/evidence/report.py: the page of results, with its tables and figures."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from matplotlib.figure import Figure

from ..analysis.files import check_folder
from ..checkpoints import atomic_write
from ..errors import UserError
from ..evidence import Results, read_plan
from ..evidence.figures import learning_curves, score_against_macs
from ..evidence.page import page
from ..evidence.summary import Summary, summaries
from .count_configs import config_folder
from .errors import one_line_errors

# In the order of the page; a choice from other plans has no results of its own.
PLANS = (
    'finetune_mobilenet',
    'finetune_resnet50_half',
    'finetune_camvid',
    'cifar10_short',
    'cifar10_full',
    'warm_start',
    'camvid',
    'bccd',
    'cifar10_small',
    'bccd_small',
    'smoke',
)


def main(argv: list[str] | None = None) -> None:
    """Write the page as the command line says.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
    args = parse(argv)
    with one_line_errors(args.debug):
        check_folder(args.out)
        if not args.results.is_dir():
            raise UserError(f'--results: there is no folder {args.results}')
        all_results = [Results(args.results, read_plan(path)) for path in args.plans]
        figures = {
            results.plan.name: draw(results, args.out) for results in all_results if results.runs
        }
        source = os.path.relpath(args.results, args.out.parent)
        claim = args.results / 'claim.md'
        text = page(
            all_results,
            figures,
            'this folder' if source == '.' else f'[{source}]({source})',
            claim.read_text(encoding='utf-8').strip() if claim.is_file() else '',
        )
        with atomic_write(args.out) as partial:
            partial.write_text(text, encoding='utf-8')
        print(f'written to {args.out}')


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description='Write tables and figures of the results that tools/evidence/run.py wrote. '
        'What they mean comes first, from a file claim.md beside them.'
    )
    add = parser.add_argument
    add(
        '--plans',
        type=Path,
        nargs='+',
        metavar='PLAN',
        default=[config_folder() / 'evidence' / f'{name}.yml' for name in PLANS],
        help='YAML files; by default those of configs/evidence',
    )
    add(
        '--results',
        type=Path,
        default=Path('docs/results/evidence'),
        metavar='DIR',
        help='folder of the results; default docs/results/evidence',
    )
    add(
        '--out',
        type=Path,
        default=Path('docs/results.md'),
        metavar='FILE',
        help='the page; figures go to a folder of its name beside it; default docs/results.md',
    )
    add('--debug', action='store_true', help='show the traceback of an error as well')
    return parser.parse_args(argv)


def draw(results: Results, out: Path) -> dict[str, str]:
    """Draw a plan's figures into the folder beside the page; gives captions by linked path."""
    arms = summaries(results)
    title = results.plan.title
    figures = {}
    if any(len(run['curve']) > 1 for arm in arms.values() for run in arm.runs):
        figures[f'{results.plan.name}_curves.png'] = (
            learning_curves(results.plan, arms),
            f'{title}: learning curves',
        )
    if any(is_compared(arm, arms) for arm in arms.values()):
        figures[f'{results.plan.name}_tradeoff.png'] = (
            score_against_macs(results.plan, arms),
            f'{title}: score against MACs',
        )
    folder = out.with_suffix('')
    return {
        f'{folder.name}/{name}': save(figure, folder / name, caption)
        for name, (figure, caption) in figures.items()
    }


def is_compared(arm: Summary, arms: dict[str, Summary]) -> bool:
    """Whether an arm and its baseline both have a place in the figure of scores against cost."""
    both = (arm, arms.get(arm.arm.baseline))
    return all(one is not None and one.runs and one.cost for one in both)


def save(figure: Figure, path: Path, caption: str) -> str:
    """Write a picture without a date in it; gives its caption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        figure.savefig(partial, format='png', dpi=110, metadata={'Software': None})
    return caption


if __name__ == '__main__':
    main()
