"""Write a report of the results, with tables and figures: python report.py [options]."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import mean

try:
    from figures import learning_curves, score_against_macs
    from matplotlib.figure import Figure
    from plan import read_plan
    from results import Results, Summary, summaries

    from mmcnnmod.analysis.markdown import grid
    from mmcnnmod.cli.config import config_folder
    from mmcnnmod.cli.errors import one_line_errors
    from mmcnnmod.errors import UserError
    from mmcnnmod.files import atomic_write, check_out
except ImportError as problem:
    sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')

# In the order of the report. Selections from other plans have no results of their own.
PLANS = (
    'finetune_mobilenet', 'finetune_resnet50_half', 'finetune_camvid', 'cifar10_short',
    'cifar10_full', 'warm_start', 'camvid', 'bccd', 'cifar10_small', 'bccd_small', 'smoke',
)  # fmt: skip
NOT_RUN = 'not run'
UNKNOWN = '-'
INTRODUCTION = """\
# Results

Written by `python tools/experiments/report.py` from the files in {source};
the plans are in `configs/experiments`. A score is that of the last evaluation of a run, mean ±
standard deviation of the sample (n - 1) over seeds; no checkpoint was chosen by it. The difference
to a baseline is also given in deviations: divided by the root of the mean of both variances. MACs
and parameters are of the whole model, MACs counted by mmengine. Time is that of training
with its evaluations; other programs may have run on the machine.\
"""
TESTED = 'The score is that of a test, with the best checkpoint on validation if one was kept.'
HEAD = ('', 'parameters (M)', 'MACs (G)', 'runs', '{metric}', 'against', 'time', 'memory (MB)')


def main(argv: list[str] | None = None) -> None:
    """Write the report."""
    args = parse(argv)
    with one_line_errors(args.debug):
        check_out(args.out)
        all_results = [Results(args.results, read_plan(path)) for path in args.plans]
        if not any(results.runs for results in all_results):
            raise UserError(f'--results: {args.results} contains no results of these plans')
        figures = {
            results.plan.name: draw(results, args.out) for results in all_results if results.runs
        }
        source = os.path.relpath(args.results, args.out.parent)
        claim = args.results / 'claim.md'
        text = report(
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
        description='Write a report of results of tools/experiments/run.py, with tables and '
        'figures. It begins with the conclusions in the file claim.md of that folder.'
    )
    add = parser.add_argument
    plans = [config_folder() / 'experiments' / f'{name}.yml' for name in PLANS]
    add('--plans', type=Path, nargs='+', metavar='PLAN', default=plans,
        help='YAML files, or configs; by default the plans of configs/experiments')  # fmt: skip
    add('--results', type=Path, default=Path('docs/results/experiments'), metavar='DIR',
        help='folder of the results; default docs/results/experiments')  # fmt: skip
    add('--out', type=Path, default=Path('docs/results.md'), metavar='FILE',
        help='the report, docs/results.md by default; figures go to a folder of its name beside '
        'it')  # fmt: skip
    add('--debug', action='store_true', help='show the traceback of an error as well')
    return parser.parse_args(argv)


def report(
    all_results: Sequence[Results],
    figures: dict[str, dict[str, str]],
    source: str,
    claim: str = '',
) -> str:
    """The report in Markdown.

    Args:
        all_results (Sequence[Results]): The results of each plan, in the order of the report.
        figures (dict[str, dict[str, str]]): For each plan, the captions of its figures by path.
        source (str): The folder of the results, in Markdown.
        claim (str): The conclusions, in Markdown. Defaults to none.
    """
    lines = [INTRODUCTION.format(source=source), '', *([claim, ''] if claim else [])]
    planned, root = [], config_folder().resolve().parent
    for results in all_results:
        plan, arms = results.plan, summaries(results).values()
        done, total = sum(len(arm.runs) for arm in arms), sum(arm.planned for arm in arms)
        if done:
            lines += [f'- [{plan.title}](#{anchor(plan.title)}): {done} of {total} runs']
        else:
            path = plan.path.resolve()
            path = path.relative_to(root) if path.is_relative_to(root) else plan.path
            planned += [f'- {plan.title}: `python tools/experiments/run.py {path}`']
    if planned:
        lines += ['', 'Planned and not run yet:', '', *planned]
    for results in all_results:
        if results.runs:
            lines += ['', *section(results, figures.get(results.plan.name, {}))]
    return '\n'.join(lines) + '\n'


def anchor(title: str) -> str:
    """The anchor of a heading in rendered Markdown."""
    return re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-')


def section(results: Results, figures: dict[str, str]) -> Iterator[str]:
    """The lines of the section about a plan."""
    plan, arms = results.plan, summaries(results)
    yield f'## {plan.title}'
    if plan.about:
        yield from ('', plan.about)
    if plan.test:
        yield from ('', TESTED)
    done = [run for arm in arms.values() for run in arm.runs]
    yield from ('', f'Plan `{plan.name}.yml`; {origin(done)}', '')
    head = [title.format(metric=plan.score) for title in HEAD]
    yield from grid(head, [row(arm, arms) for arm in arms.values()])
    for path, caption in figures.items():
        yield from ('', f'![{caption}]({path})')


def origin(runs: Sequence[dict]) -> str:
    """The dates, machines and versions of the runs."""
    dates = sorted({run['date'] for run in runs})
    machines = '; '.join(sorted({run['machine'] for run in runs}))
    versions = {
        ', '.join(f'{name} {version}' for name, version in run['versions'].items()) for run in runs
    }
    parts = [f'{dates[0]} to {dates[-1]}' if len(dates) > 1 else dates[0], machines]
    busy = [run['gpu_busy_percent'] for run in runs if 'gpu_busy_percent' in run]
    if busy:
        parts.append(f'GPU busy {mean(busy):.0f}% of the time')
    return f'{"; ".join(parts)}; {"; or ".join(sorted(versions))}.'


def row(arm: Summary, arms: dict[str, Summary]) -> list[str]:
    """The row of the table for an arm."""
    cost = [
        f'{arm.cost["params"] / 1e6:.2f}' if arm.cost else UNKNOWN,
        f'{arm.cost["macs"] / 1e9:.3g}' if arm.cost else UNKNOWN,
    ]
    if not arm.runs:
        return [arm.arm.name, *cost, f'0 of {arm.planned}', NOT_RUN, *[UNKNOWN] * 3]
    return [
        arm.arm.name,
        *cost,
        f'{len(arm.runs)} of {arm.planned}',
        f'{arm.mean:.2f}' + ('' if arm.deviation is None else f' ± {arm.deviation:.2f}'),
        difference(arm, arms),
        str(timedelta(seconds=round(mean(run['train_seconds'] for run in arm.runs)))),
        str(max(run['peak_memory_mb'] for run in arm.runs)),
    ]


def difference(arm: Summary, arms: dict[str, Summary]) -> str:
    """The difference to the baseline, if both have runs."""
    baseline = arms.get(arm.arm.baseline)
    if baseline is None or not baseline.runs:
        return UNKNOWN
    value, deviations = arm.against(baseline)
    size = '' if deviations is None else f' ({abs(deviations):.1f} deviations)'
    return f'{value:+.2f} to {arm.arm.baseline}{size}'


def draw(results: Results, out: Path) -> dict[str, str]:
    """Draw the figures of a plan into a folder beside the report; returns captions by path."""
    plan, arms = results.plan, summaries(results)
    folder, captions = out.with_suffix(''), {}
    figures: list[tuple[str, str, Figure]] = []
    if any(len(run['curve']) > 1 for arm in arms.values() for run in arm.runs):
        figures.append(('curves', 'learning curves', learning_curves(plan, arms)))
    shown = {name for name, arm in arms.items() if arm.runs and arm.cost}
    if any(arms[name].arm.baseline in shown for name in shown):
        figures.append(('tradeoff', 'score against MACs', score_against_macs(plan, arms)))
    for name, caption, figure in figures:
        path = folder / f'{plan.name}_{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            # Without the version of matplotlib, equal figures are equal files.
            figure.savefig(partial, format='png', dpi=110, metadata={'Software': None})
        captions[f'{folder.name}/{path.name}'] = f'{plan.title}: {caption}'
    return captions


if __name__ == '__main__':
    main()
