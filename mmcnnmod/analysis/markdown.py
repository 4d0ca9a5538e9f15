"""Markdown tables: the paper's numbers beside counted parameters and MACs, and measured times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .counting import Count
from .measurements import Speed
from .paper import PAPER_DEVICES, Comparison, Table, Verdict, compare

NOT_THERE = '-'
NAMES = {'params': 'parameters', 'macs': 'MACs'}


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f'| {" | ".join(line)} |' for line in (head, ['---'] * len(head), *rows)]


def paper_table(table: Table, comparisons: Mapping[str, Mapping[str, Comparison]]) -> list[str]:
    """The lines of one of the paper's tables, printed beside counted, with notes on differences.

    Args:
        table (Table): The table.
        comparisons (Mapping[str, Mapping[str, Comparison]]): The results of :func:`compare` by
            config.
    """
    macs = 'MACs / dense' if table.dense else f'{table.macs_unit}MAC'
    head = ['network', 'params (M), printed', 'counted', '', f'{macs}, printed', 'counted', '']
    rows, notes = [], []
    for row in table.rows:
        cells = [row.name]
        for name in NAMES:
            found = comparisons[row.config].get(name)
            cells += [found.printed, found.ours, found.verdict.value] if found else ['-', '-', '']
            if found and found.why:
                notes.append(f'- {found.verdict.value} {row.name}, {NAMES[name]}: {found.why}.')
        rows.append(cells)
    if table.convention:
        within = f'within {table.convention["within"]:.1%}'
        notes.append(f'- {Verdict.CLOSE.value} ({within}): {table.convention["why"]}.')
    title = f'### Table {table.number}: {table.title}'
    return [title, '', *grid(head, rows), *([''] if notes else []), *notes]


def speed_table(table: Table, speed: Speed, paper_machine: Mapping[str, str]) -> list[str]:
    """The lines of tables with measured times beside those of one of the paper's tables.

    Args:
        table (Table): The paper's table.
        speed (Speed): The measured times; each of their settings gets a table.
        paper_machine (Mapping[str, str]): The names of the paper's 'cpu' and 'gpu'.
    """
    lines = []
    for setting, times in speed.times.items():
        device, cells = PAPER_DEVICES[setting.device], []
        head = ['network', 'ms', 'speed-up', f'ms on {paper_machine[device]}', 'speed-up, printed']
        for row in table.rows:
            if row.config in times:
                own, dense = times[row.config], times.get(row.baseline)
                measured = [f'{own:.2f}', f'{dense / own:.2f}' if dense else NOT_THERE]
                names = (f'{device}_ms', f'{device}_speedup')
                printed = [row.printed.get(name, NOT_THERE) for name in names]
                cells.append([row.name, *measured, *printed])
        if cells:
            where = f'{speed.machine}, {speed.date}'
            lines += ['', f'Table {table.number}, {setting} ({where}):', '', *grid(head, cells)]
    return lines


def summary(comparisons: Sequence[Comparison]) -> str:
    """How many values agree, and why the others do not."""
    number = Counter(found.verdict for found in comparisons)
    return (
        f'{number[Verdict.AGREES]}/{len(comparisons)} values agree to the printed digit '
        f'({Verdict.AGREES.value}); {number[Verdict.CLOSE]} differ only by the way of counting '
        f'({Verdict.CLOSE.value}), {number[Verdict.MISPRINT]} are misprints of the paper '
        f'({Verdict.MISPRINT.value}), {number[Verdict.DISAGREES]} disagree '
        f'({Verdict.DISAGREES.value}).'
    )


def model_table(
    tables: Sequence[Table], counts: Mapping[str, Count], others: Sequence[str]
) -> list[str]:
    """The lines of the table in docs/models.md, with a link to each config.

    Args:
        tables (Sequence[Table]): The paper's tables.
        counts (Mapping[str, Count]): By config.
        others (Sequence[str]): Configs of networks without printed numbers.
    """
    lines = []
    for table in tables:
        for row in table.rows:
            found = compare(table, row, counts)
            if table.dense is None:
                macs = marked(found['macs'], f' {table.macs_unit}')
            else:
                macs = f'{counts[row.config].macs / 1e9:.1f} G'
                if ratio := found.get('macs'):
                    agrees = ratio.verdict is Verdict.AGREES
                    printed = '' if agrees else f'; {row.printed["macs"]} {table.macs_unit} printed'
                    macs += f' ({ratio.ours} of dense{printed} {ratio.verdict.value})'
            lines.append([link(row.config), str(table.number), marked(found['params']), macs])
    for config in others:
        count = counts[config]
        numbers = [f'{count.params / 1e6:.2f}', f'{count.macs / 1e9:.2f} G']
        lines.append([link(config), NOT_THERE, *numbers])
    return grid(['config', 'table', 'parameters (M)', 'MACs'], lines)


def marked(found: Comparison, unit: str = '') -> str:
    """The printed value if it agrees, otherwise ours and the printed one, with a mark."""
    if found.verdict is Verdict.AGREES:
        return f'{found.printed}{unit} {found.verdict.value}'
    return f'{found.ours}{unit} ({found.printed} printed {found.verdict.value})'


def link(config: str) -> str:
    """A link from docs/ to a config."""
    return f'[{config}](../configs/{config}.py)'
