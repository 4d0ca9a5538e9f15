"""The paper's numbers are complete and consistent, and are compared with counts."""

import pytest

from mmcnnmod.analysis.counting import Count
from mmcnnmod.analysis.paper import (
    Row,
    Table,
    Verdict,
    compare,
    find_row,
    load_tables,
    read_numbers,
)

TABLES = load_tables()


def test_file_has_all_rows():
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
        # The rows with MoD have a baseline and a speed-up.
        assert ('cpu_speedup' in row.printed) == bool(row.baseline) == ('-mod' in row.config)
    assert table.dense is None or table.dense in configs


def test_misprints_quote_the_printed_numbers():
    """Otherwise a typing error in the list could excuse a wrong value."""
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


def test_find_row():
    row = find_row('resnet75-mod_in1k')
    assert (row.baseline, row.printed['cpu_speedup']) == ('resnet50_in1k', '1.25')
    assert find_row('resnet50-mod-c16_in1k') is None


def make_row(config='net', misprints=None, **printed):
    printed = {'params': '1.00', 'macs': '2.00', **printed}
    return Row(config, config, printed, misprints=misprints or {})


def compare_macs(macs, printed='2.00', misprints=None, convention=None, relu_macs=0, config='net'):
    """Compare MACs in millions with a printed number."""
    table = Table(1, '', 'M', [make_row(config, misprints, macs=printed)], convention=convention)
    counts = {config: Count(1_000_000, round(macs * 1e6), (8, 8), '', round(relu_macs * 1e6))}
    return compare(table, table.rows[0], counts)['macs']


@pytest.mark.parametrize(
    ('macs', 'printed', 'expected'),
    [
        (2.004, '2.00', Verdict.AGREES),
        (1.996, '2.00', Verdict.AGREES),
        (2.006, '2.00', Verdict.DISAGREES),
        (2.006, '2.0', Verdict.AGREES),
        (0.898, '0.89', Verdict.DISAGREES),
        (557.4, '557', Verdict.AGREES),
        (557.6, '557', Verdict.DISAGREES),
    ],
)
def test_macs_agree_to_the_printed_digit(macs, printed, expected):
    assert compare_macs(macs, printed).verdict is expected


@pytest.mark.parametrize(
    ('params', 'expected'), [(1_004_000, Verdict.AGREES), (1_006_000, Verdict.DISAGREES)]
)
def test_parameters_agree_to_the_printed_digit(params, expected):
    table = Table(1, '', 'M', [make_row()])
    counts = {'net': Count(params, 2_000_000, (8, 8), '')}
    assert compare(table, table.rows[0], counts)['params'].verdict is expected


def test_misprint_must_equal_its_correction():
    misprints = {'macs': dict(should_be='7.87', why='a reason')}
    found = compare_macs(7.865, '7.80', misprints)
    assert found.verdict is Verdict.MISPRINT
    assert found.why == '7.80 should be 7.87: a reason'
    # The list excuses the printed value, not a wrong network.
    assert compare_macs(7.91, '7.80', misprints).verdict is Verdict.DISAGREES
    assert compare_macs(7.80, '7.80', misprints).verdict is Verdict.AGREES


def test_convention_explains_only_small_differences():
    convention = dict(configs='res*', within=0.005, why='a reason')
    found = compare_macs(557.78, '557', convention=convention, relu_macs=0.557, config='resnet')
    assert found.verdict is Verdict.CLOSE
    assert found.why == '+0.14% from 557; 557.22 with every ReLU counted once'
    too_far = compare_macs(560, '557', convention=convention, config='resnet')
    other_family = compare_macs(557.78, '557', convention=convention, config='vgg')
    assert too_far.verdict is other_family.verdict is Verdict.DISAGREES


def test_misprint_within_the_convention():
    convention = dict(configs='*', within=0.005, why='a reason')
    misprints = {'macs': dict(should_be='1160', why='another reason')}
    found = compare_macs(1163.4, '1016', misprints, convention)
    assert found.verdict is Verdict.MISPRINT
    assert found.why.startswith('1016 should be 1160: another reason; ours is +0.29% from 1160')
    assert compare_macs(1016.9, '1016', misprints, convention).verdict is Verdict.DISAGREES


def test_ratios_agree_within_rounding_of_the_printed_numbers():
    dense, mod, misprint = rows = [
        make_row('dense', macs='0.111'),
        make_row('mod', macs='0.104'),
        make_row('misprint', {'macs': dict(should_be='0.0949', why='misplaced point')}),
    ]
    table = Table(4, '', 'T', rows, dense='dense')

    def compare_ratio(row, macs):
        counts = {'dense': Count(1, 1000, (1, 1), ''), row.config: Count(1, macs, (1, 1), '')}
        return compare(table, row, counts)['macs']

    # 0.1035 / 0.1115 = 0.928 and 0.1045 / 0.1105 = 0.946
    assert [compare_ratio(mod, macs).verdict for macs in (927, 929, 945, 947)] == [
        Verdict.DISAGREES, Verdict.AGREES, Verdict.AGREES, Verdict.DISAGREES,
    ]  # fmt: skip
    assert compare_ratio(mod, 938).printed == '0.104 / 0.111 = 0.928 to 0.946'
    assert compare_ratio(misprint, 854).verdict is Verdict.MISPRINT
    assert compare_ratio(misprint, 900).verdict is Verdict.DISAGREES
    assert set(compare(table, dense, {'dense': Count(1, 1000, (1, 1), '')})) == {'params'}
