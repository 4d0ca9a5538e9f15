"""The page of results, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from statistics import mean

from ..analysis.markdown import grid
from .results import Results
from .summary import Summary, summaries

NOT_RUN = 'not run'
UNKNOWN = '-'
INTRODUCTION = """\
# Results

Written by `python tools/evidence/report.py` from the files in {source};
the plans stand in `configs/evidence`. A score is that of the last evaluation of a run, mean ±
standard deviation of the sample (n - 1) over seeds; no checkpoint was chosen by it. The difference
to a baseline is also given in deviations: divided by the root of the mean of both variances. MACs
and parameters are of the whole model, MACs counted by mmengine. Time is that of training
with its evaluations; other programs may have run on the machine.\
"""
HEAD = ('', 'parameters (M)', 'MACs (G)', 'runs', '{metric}', 'against', 'time', 'memory (MB)')


def page(
    all_results: Sequence[Results],
    figures: dict[str, dict[str, str]],
    source: str,
    claim: str = '',
) -> str:
    """The whole page.

    Args:
        all_results (Sequence[Results]): Of each plan, in the order of the page.
        figures (dict[str, dict[str, str]]): By plan, the figures' captions by their paths, as the
            page links them.
        source (str): What the page says the results are from.
        claim (str): Markdown that says what the results mean. Defaults to nothing.

    Returns:
        str: Markdown.
    """
    lines = [INTRODUCTION.format(source=source), '', *([claim, ''] if claim else [])]
    lines += contents(all_results)
    for results in all_results:
        if results.runs:
            lines += ['', *section(results, figures.get(results.plan.name, {}))]
    return '\n'.join(lines) + '\n'


def contents(all_results: Sequence[Results]) -> Iterator[str]:
    """A line for each plan, with how much of it was run."""
    for results in all_results:
        plan, arms = results.plan, summaries(results).values()
        done, planned = sum(len(arm.runs) for arm in arms), sum(arm.planned for arm in arms)
        if done:
            yield f'- [{plan.title}](#{anchor(plan.title)}): {done} of {planned} runs'
        else:
            yield f'- {plan.title}, plan `{plan.name}.yml`: {NOT_RUN}'


def anchor(title: str) -> str:
    """Of a heading, as Markdown pages are rendered."""
    return re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-')


def section(results: Results, figures: dict[str, str]) -> Iterator[str]:
    """The lines on one plan."""
    plan, arms = results.plan, summaries(results)
    yield f'## {plan.title}'
    if plan.about:
        yield from ('', plan.about)
    done = [run for arm in arms.values() for run in arm.runs]
    yield from ('', f'Plan `{plan.name}.yml`; {origin(done)}', '')
    head = [title.format(metric=plan.score) for title in HEAD]
    yield from grid(head, [row(arm, arms) for arm in arms.values()])
    for path, caption in figures.items():
        yield from ('', f'![{caption}]({path})')


def origin(runs: Sequence[dict]) -> str:
    """On which machines, when and with what runs were made."""
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
    """An arm's row of the table."""
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
        score(arm),
        difference(arm, arms),
        str(timedelta(seconds=round(mean(run['train_seconds'] for run in arm.runs)))),
        str(max(run['peak_memory_mb'] for run in arm.runs)),
    ]


def score(arm: Summary) -> str:
    """Mean and deviation."""
    return f'{arm.mean:.2f}' + ('' if arm.deviation is None else f' ± {arm.deviation:.2f}')


def difference(arm: Summary, arms: dict[str, Summary]) -> str:
    """To the baseline, where both were run."""
    baseline = arms.get(arm.arm.baseline)
    if baseline is None or not baseline.runs:
        return UNKNOWN
    value, deviations = arm.against(baseline)
    size = '' if deviations is None else f' ({abs(deviations):.1f} deviations)'
    return f'{value:+.2f} to {arm.arm.baseline}{size}'
