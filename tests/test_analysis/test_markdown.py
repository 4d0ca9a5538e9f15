"""Tables of speed and of models, and the summary."""

from mmcnnmod.analysis.counting import Count
from mmcnnmod.analysis.markdown import model_table, speed_table, summary
from mmcnnmod.analysis.measurements import Setting, Speed
from mmcnnmod.analysis.paper import Comparison, Row, Table, Verdict


def test_measured_times_beside_the_papers():
    printed = dict(cpu_ms='10.0', gpu_ms='1.0', params='1.00', macs='2.00')
    rows = [
        Row('dense', 'Dense', printed),
        Row('mod', 'MoD', {**printed, 'gpu_ms': '0.5', 'gpu_speedup': '2.00'}, 'dense'),
        Row('absent', 'Absent', printed, 'dense'),
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


def test_summary_counts_each_verdict():
    verdicts = [Verdict.AGREES, Verdict.AGREES, Verdict.CLOSE, Verdict.DISAGREES]
    text = summary([Comparison('', '', verdict) for verdict in verdicts])
    assert text.startswith('2/4 values agree')
    assert '1 differ only by the way of counting' in text
    assert '0 are misprints' in text
    assert '1 disagree' in text


def test_model_table():
    rows = [
        Row('a', '', {'params': '1.00', 'macs': '2'}),
        Row('b', '', {'params': '1.10', 'macs': '2'}),
    ]
    counts = {
        'a': Count(1_000_000, 2_000_000, (1, 1), ''),
        'b': Count(1_200_000, 2_100_000, (1, 1), ''),
        'c': Count(1_230_000, 1_230_000_000, (1, 1), ''),
    }
    misprint = dict(macs=dict(printed='9', should_be='1', why='a typing error'))
    ratios = [rows[0], Row('d', '', {'params': '1.20', 'macs': '9'}, misprints=misprint)]
    counts['d'] = Count(1_200_000, 1_000_000, (1, 1), '')
    tables = [Table(9, '', 'M', rows), Table(4, '', 'T', ratios, dense='a')]
    assert model_table(tables, counts, ['c'])[2:] == [
        '| [a](../configs/a.py) | 9 | 1.00 ✓ | 2 M ✓ |',
        '| [b](../configs/b.py) | 9 | 1.2000 (1.10 printed ✗) | 2 M ✓ |',
        '| [a](../configs/a.py) | 4 | 1.00 ✓ | 0.0 G |',
        '| [d](../configs/d.py) | 4 | 1.20 ✓ | 0.0 G (0.500 of dense; 9 T printed †) |',
        '| [c](../configs/c.py) | - | 1.23 | 1.23 G |',
    ]
