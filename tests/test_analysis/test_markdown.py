"""Tables of speed, the summary, and the README's model table."""

from mmcnnmod.analysis.comparison import Comparison, Verdict
from mmcnnmod.analysis.counting import Count
from mmcnnmod.analysis.markdown import model_table, speed_table, summary
from mmcnnmod.analysis.measurements import Setting, Speed
from mmcnnmod.analysis.paper import Row, Table

TIMES = dict(cpu_ms='10.0', gpu_ms='1.0', params='1.00', macs='2.00')


def test_speed_stands_beside_the_papers():
    rows = [
        Row('dense', 'Dense', TIMES),
        Row('mod', 'MoD', {**TIMES, 'gpu_ms': '0.5', 'gpu_speedup': '2.00'}, 'dense'),
        Row('absent', 'Absent', TIMES, 'dense'),
    ]
    times = {
        Setting('cuda', 'eager', 8, 'float32'): {'dense': 6.0, 'mod': 4.0},
        Setting('cpu', 'eager', 1, 'float32'): {'other': 6.0},
    }
    speed = Speed('a machine', 'a day', times)
    lines = speed_table(Table(1, '', 'G', rows), speed, {'cpu': 'A CPU', 'gpu': 'A GPU'})
    assert lines == [
        '',
        'Table 1, cuda, eager, batch 8, float32 (a machine, a day):',
        '',
        '| network | ms | speed-up | ms on A GPU | speed-up, printed |',
        '| --- | --- | --- | --- | --- |',
        '| Dense | 6.00 | - | 1.0 | - |',
        '| MoD | 4.00 | 1.50 | 0.5 | 2.00 |',
    ]


def test_speed_ups_that_contradict_the_printed_times_get_a_note():
    rows = [
        Row('dense', 'Dense', TIMES),
        Row('mod', 'MoD', {**TIMES, 'cpu_ms': '6.0', 'cpu_speedup': '1.77'}, 'dense'),
        Row('other', 'Other', {**TIMES, 'cpu_ms': '5.9', 'cpu_speedup': '1.69'}, 'dense'),
    ]
    times = {Setting('cpu', 'eager', 1, 'float32'): dict(dense=1.0, mod=1.0, other=1.0)}
    table = Table(1, '', 'G', rows)
    lines = speed_table(table, Speed('', '', times), {'cpu': '', 'gpu': ''})
    assert lines[-1] == '- MoD: 1.77 is printed, the printed times give 1.67.'
    assert not any(line.startswith('- Other') for line in lines)


def test_the_summary_counts_each_kind():
    marks = [Verdict.AGREES, Verdict.AGREES, Verdict.CLOSE, Verdict.DISAGREES]
    text = summary([Comparison('', '', mark) for mark in marks])
    assert text.startswith('2/4 values agree')
    assert '1 are as near' in text
    assert '0 are misprints' in text
    assert '1 disagree' in text


def test_networks_with_several_data_sets_share_a_line():
    rows = [
        Row('net_a', '', {'params': '1.00', 'macs': '2'}),
        Row('other_a', '', {'params': '5.00', 'macs': '9'}),
        Row('net_b', '', {'params': '1.10', 'macs': '2'}),
    ]
    counts = {
        'net_a': Count(1_000_000, 2_000_000, (1, 1), ''),
        'net_b': Count(1_200_000, 2_100_000, (1, 1), ''),
        'other_a': Count(5_000_000, 9_000_000, (1, 1), ''),
        'extra_a': Count(1_230_000, 1_230_000_000, (1, 1), ''),
    }
    assert model_table([Table(9, '', 'M', rows)], counts, ['extra_a'])[2:] == [
        '| [net_a](../configs/net_a.py), [b](../configs/net_b.py) | 9 '
        '| 1.00 ✓, 1.2000 (1.10 printed) | 2 M ✓ |',
        '| [other_a](../configs/other_a.py) | 9 | 5.00 ✓ | 9 M ✓ |',
        '| [extra_a](../configs/extra_a.py) | - | 1.23 | 1.23 G |',
    ]
