"""The paper's numbers as data: complete, and consistent in itself."""

import pytest

from mmcnnmod.analysis.paper import PRINTED_NUMBERS, load_tables, read, speed_machine

TABLES = load_tables()


def test_every_row_is_there():
    rows = {table.number: len(table.rows) for table in TABLES}
    assert rows == {1: 8, 2: 3, 3: 4, 4: 4, 7: 6, 9: 20}
    configs = [row.config for table in TABLES for row in table.rows]
    assert len(set(configs)) == len(configs)
    assert set(speed_machine()) == {'cpu', 'gpu'}


@pytest.mark.parametrize('table', TABLES, ids=lambda table: f'table{table.number}')
def test_rows_are_complete(table):
    configs = {row.config for row in table.rows}
    for row in table.rows:
        assert {'params', 'macs', 'cpu_ms', 'gpu_ms'} <= set(row.printed)
        assert all(float(text) > 0 for text in row.printed.values())
        assert row.baseline is None or row.baseline in configs
        # Speed-ups are printed for the rows that have a baseline: those with MoD.
        assert ('cpu_speedup' in row.printed) == bool(row.baseline) == ('-mod' in row.config)
    assert table.dense is None or table.dense in configs


def test_misprints_are_about_what_is_printed():
    """So that a slip in the list cannot excuse a value silently."""
    printed = {
        (table.number, row.config, name): text
        for table in TABLES
        for row in table.rows
        for name, text in row.printed.items()
    }
    entries = read(PRINTED_NUMBERS)['misprints']
    assert len(entries) == 8
    for entry in entries:
        assert printed[entry['table'], entry['config'], entry['value']] == entry['printed']
        assert entry['should_be'] != entry['printed']
        assert entry['why']
    assert sum(len(row.misprints) for table in TABLES for row in table.rows) == len(entries)
