"""The paper's numbers as data: complete, and consistent in itself."""

import pytest

from mmcnnmod.analysis.paper import find_row, load_tables, read_numbers

TABLES = load_tables()


def test_every_row_is_there():
    rows = {table.number: len(table.rows) for table in TABLES}
    assert rows == {1: 8, 2: 3, 3: 4, 4: 4, 7: 6, 9: 20}
    configs = [row.config for table in TABLES for row in table.rows]
    assert len(set(configs)) == len(configs)
    assert set(read_numbers()['speed_measured_on']) == {'cpu', 'gpu'}


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
    misprints = [
        (row, name, entry)
        for table in TABLES
        for row in table.rows
        for name, entry in row.misprints.items()
    ]
    assert len(misprints) == 8
    for row, name, entry in misprints:
        assert row.printed[name] == entry['printed']
        assert row.expected(name) == entry['should_be'] != entry['printed']
        assert entry['why'] in row.why(name)


def test_rows_are_found_by_config():
    row = find_row('resnet75-mod_in1k')
    assert (row.baseline, row.printed['cpu_speedup']) == ('resnet50_in1k', '1.25')
    assert find_row('resnet50-mod-c16_in1k') is None
