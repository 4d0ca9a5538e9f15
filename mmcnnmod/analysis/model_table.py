"""The table of docs/models.md: every network once, with links to its configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .comparison import UNITS, Comparison, Verdict, compare
from .counting import Count
from .markdown import NOT_THERE, grid
from .paper import Row, Table


def model_table(
    tables: Sequence[Table], counts: Mapping[str, Count], others: Sequence[str]
) -> list[str]:
    """One line for each network; those that differ in the data set share it.

    Args:
        tables (Sequence[Table]): The paper's tables.
        counts (Mapping[str, Count]): By config.
        others (Sequence[str]): Configs of networks without printed numbers.

    Returns:
        list[str]: Lines.
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
    """The cells of one network: its configs, the table, parameters and MACs."""
    # The data sets differ in the head alone: what is printed alike for several stands once.
    params, macs = {}, {}
    for row in rows:
        found = compare(table, row, counts)
        params.setdefault(found['params'].printed, marked(found['params']))
        if table.dense:
            macs[row.config] = with_ratio(table, row, counts[row.config], found.get('macs'))
        else:
            macs.setdefault(found['macs'].printed, marked(found['macs'], f' {table.macs_unit}'))
    cells = [', '.join(texts.values()) for texts in (params, macs)]
    return [links([row.config for row in rows]), str(table.number), *cells]


def marked(found: Comparison, unit: str = '') -> str:
    """The printed value with its mark if it agrees, else ours with the printed one behind it."""
    if found.verdict is Verdict.AGREES:
        return f'{found.printed}{unit} {found.verdict.value}'
    return f'{found.ours}{unit} ({found.printed} printed)'


def with_ratio(table: Table, row: Row, count: Count, ratio: Comparison | None) -> str:
    """Our MACs and their ratio to the dense row's, which is what compares."""
    macs = f'{count.macs / UNITS["G"]:.1f} G'
    if ratio is None:
        return macs
    mark = f' {ratio.verdict.value}'
    if ratio.verdict is not Verdict.AGREES:
        mark = f'; {row.printed["macs"]} {table.macs_unit} printed'
    return f'{macs} ({ratio.ours} of dense{mark})'


def links(configs: Sequence[str]) -> str:
    """Links from docs/ to the configs of one network; from the second on the data set alone."""
    first, *others = configs
    texts = [first, *(config.rpartition('_')[2] for config in others)]
    return ', '.join(
        f'[{text}](../configs/{config}.py)' for text, config in zip(texts, configs, strict=True)
    )
