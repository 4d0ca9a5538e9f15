"""The paper's tables, printed beside counted or measured, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .comparison import Comparison, Verdict
from .measurements import Speed
from .paper import Row, Table

# 'params' and 'macs' of a row.
Comparisons = Mapping[str, Comparison]
NOT_THERE = '-'
NAMES = {'params': 'parameters', 'macs': 'MACs'}
# What the paper calls a device.
PAPER_DEVICES = {'cpu': 'cpu', 'cuda': 'gpu'}
# More than the rounding of the printed times and speed-ups explains.
CONTRADICTION = 0.05


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f'| {" | ".join(line)} |' for line in (head, ['---'] * len(head), *rows)]


def paper_table(table: Table, comparisons: Mapping[str, Comparisons]) -> list[str]:
    """A table of the paper, printed beside counted, with its notes.

    Args:
        table (Table): The table.
        comparisons (Mapping[str, Comparisons]): By config.

    Returns:
        list[str]: Lines.
    """
    macs = 'MACs / dense' if table.dense else f'{table.macs_unit}MAC'
    head = ['network', 'params (M), printed', 'counted', '', f'{macs}, printed', 'counted', '']
    rows = []
    for row in table.rows:
        found = comparisons[row.config]
        rows.append([row.name, *cells(found.get('params')), *cells(found.get('macs'))])
    title = f'### Table {table.number}: {table.title}'
    return [title, '', *grid(head, rows), *notes(table, comparisons)]


def cells(found: Comparison | None) -> list[str]:
    """Printed, counted and mark of one value."""
    return [found.printed, found.ours, found.verdict.value] if found else [NOT_THERE] * 2 + ['']


def notes(table: Table, comparisons: Mapping[str, Comparisons]) -> Iterator[str]:
    """Why values differ, where that is known; an empty line before."""
    reasons = [
        f'- {found.verdict.value} {row.name}, {NAMES[value]}: {found.why}.'
        for row in table.rows
        for value, found in comparisons[row.config].items()
        if found.why
    ]
    if reasons:
        yield ''
    yield from reasons
    if table.convention:
        within = f'within {table.convention.within:.1%}'
        yield f'- {Verdict.CLOSE.value} ({within}): {table.convention.why}.'


def speed_table(table: Table, speed: Speed, paper_machine: Mapping[str, str]) -> list[str]:
    """Measured times of a table's networks beside the paper's, a table for each setting.

    Args:
        table (Table): The table.
        speed (Speed): What was measured.
        paper_machine (Mapping[str, str]): The paper's 'cpu' and 'gpu'.

    Returns:
        list[str]: Lines; none if no network of the table was measured.
    """
    lines = []
    for setting, times in speed.times.items():
        rows = [row for row in table.rows if row.config in times]
        if not rows:
            continue
        device = PAPER_DEVICES[setting.device]
        head = ['network', 'ms', 'speed-up', f'ms on {paper_machine[device]}', 'speed-up, printed']
        cells = [
            [
                row.name,
                f'{times[row.config]:.2f}',
                speed_up(row, times),
                row.printed[f'{device}_ms'],
                row.printed.get(f'{device}_speedup', NOT_THERE),
            ]
            for row in rows
        ]
        where = f'{speed.machine}, {speed.date}'
        lines += ['', f'Table {table.number}, {setting} ({where}):', '', *grid(head, cells)]
        lines += contradictions(table, rows, device)
    return lines


def contradictions(table: Table, rows: Sequence[Row], device: str) -> Iterator[str]:
    """Where a printed speed-up is not what the printed times give; an empty line before each."""
    printed = {row.config: row.printed for row in table.rows}
    for row in rows:
        if row.baseline is None or f'{device}_speedup' not in row.printed:
            continue
        dense, own = (float(printed[name][f'{device}_ms']) for name in (row.baseline, row.config))
        speedup = row.printed[f'{device}_speedup']
        if abs(dense / own / float(speedup) - 1) > CONTRADICTION:
            yield ''
            yield f'- {row.name}: {speedup} is printed, the printed times give {dense / own:.2f}.'


def speed_up(row: Row, times: Mapping[str, float]) -> str:
    """How many times as fast as its baseline a network is."""
    if row.baseline not in times:
        return NOT_THERE
    return f'{times[row.baseline] / times[row.config]:.2f}'


def summary(comparisons: Sequence[Comparison]) -> str:
    """How many values agree, and what the others are."""
    number = dict.fromkeys(Verdict, 0)
    for found in comparisons:
        number[found.verdict] += 1
    return (
        f'{number[Verdict.AGREES]}/{len(comparisons)} values agree to the printed digit '
        f'({Verdict.AGREES.value}); {number[Verdict.CLOSE]} are as near as another way of counting '
        f'explains ({Verdict.CLOSE.value}), {number[Verdict.MISPRINT]} are misprints of the paper '
        f'({Verdict.MISPRINT.value}), {number[Verdict.DISAGREES]} disagree '
        f'({Verdict.DISAGREES.value}).'
    )
