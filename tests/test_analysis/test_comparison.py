"""What agrees with a printed value, and what does not."""

import pytest

from mmcnnmod.analysis.comparison import Verdict, compare
from mmcnnmod.analysis.counting import Count
from mmcnnmod.analysis.paper import Row, Table


def row(config='net', misprints=None, **printed):
    printed = {'params': '1.00', 'macs': '2.00', **printed}
    return Row(config, config, printed, misprints=misprints or {})


def verdict(macs, printed='2.00', misprints=None, convention=None, relu_macs=0, config='net'):
    """Of MACs, in millions."""
    table = Table(1, '', 'M', [row(config, misprints, macs=printed)], convention=convention)
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
def test_values_agree_to_the_printed_digit(macs, printed, expected):
    assert verdict(macs, printed).verdict is expected


def test_a_misprint_must_be_what_it_should_be():
    misprints = {'macs': dict(should_be='7.87', why='a reason')}
    found = verdict(7.865, '7.80', misprints)
    assert found.verdict is Verdict.MISPRINT
    assert found.why == '7.80 should be 7.87: a reason'
    # The list excuses the printed value, not a wrong network.
    assert verdict(7.91, '7.80', misprints).verdict is Verdict.DISAGREES
    assert verdict(7.80, '7.80', misprints).verdict is Verdict.AGREES


def test_another_convention_explains_small_differences_only():
    convention = dict(configs='res*', within=0.005, why='a reason')
    found = verdict(557.78, '557', convention=convention, relu_macs=0.557, config='resnet')
    assert found.verdict is Verdict.CLOSE
    assert found.why == '+0.14% from 557; 557.22 with every ReLU counted once'
    far = verdict(560, '557', convention=convention, config='resnet')
    other = verdict(557.78, '557', convention=convention, config='vgg')
    assert far.verdict is other.verdict is Verdict.DISAGREES


def test_a_misprint_may_need_the_convention_too():
    convention = dict(configs='*', within=0.005, why='a reason')
    misprints = {'macs': dict(should_be='1160', why='another reason')}
    found = verdict(1163.4, '1016', misprints, convention)
    assert found.verdict is Verdict.MISPRINT
    assert found.why.startswith('1016 should be 1160: another reason; ours is +0.29% from 1160')
    assert verdict(1016.9, '1016', misprints, convention).verdict is Verdict.DISAGREES


def test_ratios_agree_within_what_the_printed_digits_allow():
    rows = [row('dense', macs='0.111'), row('mod', macs='0.104'), row('bad', macs='0.949')]
    rows[2].misprints['macs'] = dict(should_be='0.0949', why='misplaced point')
    table = Table(4, '', 'T', rows, dense='dense')

    def ratio(config, macs):
        counts = {'dense': Count(1, 1000, (1, 1), ''), config: Count(1, macs, (1, 1), '')}
        return compare(table, next(x for x in rows if x.config == config), counts)['macs']

    # 0.1035 / 0.1115 = 0.928 and 0.1045 / 0.1105 = 0.946
    assert [ratio('mod', macs).verdict for macs in (927, 929, 945, 947)] == [
        Verdict.DISAGREES, Verdict.AGREES, Verdict.AGREES, Verdict.DISAGREES,
    ]  # fmt: skip
    assert ratio('mod', 938).printed == '0.104 / 0.111 = 0.928 to 0.946'
    assert ratio('bad', 854).verdict is Verdict.MISPRINT
    assert ratio('bad', 900).verdict is Verdict.DISAGREES
    assert set(compare(table, rows[0], {'dense': Count(1, 1000, (1, 1), '')})) == {'params'}


def test_parameters_are_in_millions():
    counts = {'net': Count(1_004_000, 2_000_000, (8, 8), '')}
    table = Table(1, '', 'M', [row()])
    assert compare(table, table.rows[0], counts)['params'].verdict is Verdict.AGREES
    counts = {'net': Count(1_006_000, 2_000_000, (8, 8), '')}
    assert compare(table, table.rows[0], counts)['params'].verdict is Verdict.DISAGREES
