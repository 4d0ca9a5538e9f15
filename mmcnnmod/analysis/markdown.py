"""The paper's tables beside what was counted or measured, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .comparison import UNITS, Comparison, Verdict, compare
from .counting import Count
from .measurements import Speed
from .paper import PAPER_DEVICES, Row, Table

NOT_THERE = '-'
NAMES = {'params': 'parameters', 'macs': 'MACs'}
# More than the rounding of the printed times and speed-ups explains.
CONTRADICTION = 0.05


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f'| {" | ".join(line)} |' for line in (head, ['---'] * len(head), *rows)]


def paper_table(table: Table, comparisons: Mapping[str, Mapping[str, Comparison]]) -> list[str]:
    """The lines of one of the paper's tables, printed beside counted, and why values differ."""
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
    """Measured times beside one of the paper's tables: the lines of a table for each setting.

    ``paper_machine`` names the paper's 'cpu' and 'gpu'.
    """
    lines = []
    for setting, times in speed.times.items():
        rows = [row for row in table.rows if row.config in times]
        if not rows:
            continue
        device, cells = PAPER_DEVICES[setting.device], []
        head = ['network', 'ms', 'speed-up', f'ms on {paper_machine[device]}', 'speed-up, printed']
        for row in rows:
            own, dense = times[row.config], times.get(row.baseline)
            measured = [f'{own:.2f}', f'{dense / own:.2f}' if dense else NOT_THERE]
            printed = [row.printed.get(f'{device}_{name}', NOT_THERE) for name in ('ms', 'speedup')]
            cells.append([row.name, *measured, *printed])
        where = f'{speed.machine}, {speed.date}'
        lines += ['', f'Table {table.number}, {setting} ({where}):', '', *grid(head, cells)]
        lines += contradictions(table, rows, device)
    return lines


def contradictions(table: Table, rows: Sequence[Row], device: str) -> Iterator[str]:
    """Where a printed speed-up is not what the printed times give; an empty line before each."""
    times = {row.config: float(row.printed[f'{device}_ms']) for row in table.rows}
    for row in rows:
        speedup = row.printed.get(f'{device}_speedup')
        if row.baseline is None or speedup is None:
            continue
        given = times[row.baseline] / times[row.config]
        if abs(given / float(speedup) - 1) > CONTRADICTION:
            yield from (
                '',
                f'- {row.name}: {speedup} is printed, the printed times give {given:.2f}.',
            )


def summary(comparisons: Sequence[Comparison]) -> str:
    """How many values agree, and what the others are."""
    number = Counter(found.verdict for found in comparisons)
    return (
        f'{number[Verdict.AGREES]}/{len(comparisons)} values agree to the printed digit '
        f'({Verdict.AGREES.value}); {number[Verdict.CLOSE]} are as near as another way of counting '
        f'explains ({Verdict.CLOSE.value}), {number[Verdict.MISPRINT]} are misprints of the paper '
        f'({Verdict.MISPRINT.value}), {number[Verdict.DISAGREES]} disagree '
        f'({Verdict.DISAGREES.value}).'
    )


def model_table(
    tables: Sequence[Table], counts: Mapping[str, Count], others: Sequence[str]
) -> list[str]:
    """The lines of docs/models.md's table: one for each network, with links to its configs.

    Args:
        tables (Sequence[Table]): The paper's tables.
        counts (Mapping[str, Count]): By config.
        others (Sequence[str]): Configs of networks without printed numbers.
    """
    lines = []
    for table in tables:
        networks: dict[str, list[Row]] = {}
        for row in table.rows:
            networks.setdefault(row.config.rpartition('_')[0], []).append(row)
        lines += [model_line(table, rows, counts) for rows in networks.values()]
    for config in others:
        count = counts[config]
        params, macs = f'{count.params / 1e6:.2f}', f'{count.macs / 1e9:.2f} G'
        lines.append([links([config]), NOT_THERE, params, macs])
    return grid(['config', 'table', 'parameters (M)', 'MACs'], lines)


def model_line(table: Table, rows: Sequence[Row], counts: Mapping[str, Count]) -> list[str]:
    """The cells of one network; a number printed alike for several data sets is there once."""
    params, macs = {}, {}
    for row in rows:
        found = compare(table, row, counts)
        params.setdefault(found['params'].printed, marked(found['params']))
        if table.dense is None:
            macs.setdefault(found['macs'].printed, marked(found['macs'], f' {table.macs_unit}'))
            continue
        macs[row.config] = f'{counts[row.config].macs / UNITS["G"]:.1f} G'
        if ratio := found.get('macs'):
            mark = f' {ratio.verdict.value}'
            if ratio.verdict is not Verdict.AGREES:
                mark = f'; {row.printed["macs"]} {table.macs_unit} printed'
            macs[row.config] += f' ({ratio.ours} of dense{mark})'
    cells = [', '.join(texts.values()) for texts in (params, macs)]
    return [links([row.config for row in rows]), str(table.number), *cells]


def marked(found: Comparison, unit: str = '') -> str:
    """The printed value with its mark if it agrees, else ours and then the printed one."""
    if found.verdict is Verdict.AGREES:
        return f'{found.printed}{unit} {found.verdict.value}'
    return f'{found.ours}{unit} ({found.printed} printed)'


def links(configs: Sequence[str]) -> str:
    """Links from docs/ to the configs of one network; from the second on only the data set."""
    first, *others = configs
    texts = [first, *(config.rpartition('_')[2] for config in others)]
    return ', '.join(
        f'[{text}](../configs/{config}.py)' for text, config in zip(texts, configs, strict=True)
    )
