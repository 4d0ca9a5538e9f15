"""tools/analysis_tools/benchmark.py from the options to the tables."""

import json
import runpy
import sys

import benchmark
import benchmark_setting
import pytest

from mmcnnmod.analysis.measurements import Setting, read_speed
from mmcnnmod.analysis.timing import interleaved
from mmcnnmod.ops import operator_problem

from ...utils.tasks import ROOT

TOOL = ROOT / 'tools/analysis_tools/benchmark.py'
SMALL = ['resnet18_in1k', 'resnet18-mod_in1k', '--size', '32', '32', '--rounds', '2']


@pytest.fixture
def quick(monkeypatch, in_process):
    """Each measurement as short as can be."""
    monkeypatch.setattr(
        benchmark_setting,
        'interleaved',
        lambda calls, rounds, block, advance: interleaved(calls, rounds, 0, advance),
    )


def test_measures_writes_and_shows_again(quick, monkeypatch, capsys):
    options = [*SMALL, '--batch-sizes', '1', '2', '--json', 'speed.json', '--machine', 'mine']
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *options])
    monkeypatch.setenv('OMP_WAIT_POLICY', 'PASSIVE')
    runpy.run_path(str(TOOL), run_name='__main__')
    printed = capsys.readouterr().out

    with open('speed.json') as file:
        content = json.load(file)
    assert content['machine'] == 'mine'
    assert {'torch', 'mmcv'} <= set(content['versions'])
    assert content['switches']['OMP_WAIT_POLICY'] == 'PASSIVE'
    assert [(result['config'], result['what']) for result in content['results']] == 2 * [
        ('resnet18_in1k', 'inference'),
        ('resnet18-mod_in1k', 'inference'),
        ('resnet18-mod_in1k', 'inference skip bound'),
    ]
    _, mod, bound = content['results'][:3]
    assert mod['speedup'] > 0
    assert bound['median_ms'] > 0
    assert mod['overhead'] > -1
    assert mod['overhead_iqr'] >= 0
    assert mod['paper_speedup'] > 1
    assert mod['peak_mb'] > 0
    assert mod['size'] == [32, 32]

    speed = read_speed(benchmark.Path('speed.json'))
    assert list(speed.times) == [Setting('cpu', 'eager', n, 'float32') for n in (1, 2)]
    benchmark.main(['--show', 'speed.json'])
    assert capsys.readouterr().out == printed
    assert printed.count('| resnet18-mod_in1k (32x32) |') == 2
    assert printed.startswith('mine; ')
    assert 'OMP_WAIT_POLICY=PASSIVE' in printed.splitlines()[0]
    assert printed.count('| Inference, cpu, eager, batch') == 2  # the overview


def test_training(quick, capsys):
    benchmark.main([*SMALL, '--what', 'training', '--no-bound', '--batch-sizes', '2'])
    printed = capsys.readouterr().out
    assert 'Training, cpu, eager, batch 2, float32' in printed
    rows = [line for line in printed.splitlines() if line.startswith('| resnet18')]
    assert len(rows) == 2
    assert all('%' not in row for row in rows)  # no bound to compare with


def test_training_compiles_the_backbone(quick, compiled_graphs, capsys):
    options = ['--what', 'training', '--runtimes', 'compile', '--no-bound', '--batch-sizes', '2']
    benchmark.main([*SMALL, *options])
    assert 'Left out' not in capsys.readouterr().out
    assert len(compiled_graphs) == 2  # one for each network


def test_what_fails_is_left_out(quick, monkeypatch, capsys):
    def refuse_bounds(self, source, bound, setting, call=benchmark_setting.Benchmark.call):
        if bound:
            raise RuntimeError('no\nbounds')
        return call(self, source, bound, setting)

    monkeypatch.setattr(benchmark_setting.Benchmark, 'call', refuse_bounds)
    benchmark.main(SMALL)
    printed = capsys.readouterr().out
    assert printed.count('| resnet18') == 2
    assert 'Left out: resnet18-mod_in1k, skip bound (inference, cpu, eager, batch 1' in printed
    assert 'no bounds' in printed


def test_what_fails_while_it_is_timed_is_left_out(quick, monkeypatch, capsys):
    calls = []

    def fail_at_third_run(self, source, bound, setting, call=benchmark_setting.Benchmark.call):
        run = call(self, source, bound, setting)

        def once_more():
            calls.append(1)
            if len(calls) > 2:
                raise RuntimeError('out of memory')
            return run()

        return once_more if bound else run

    monkeypatch.setattr(benchmark_setting.Benchmark, 'call', fail_at_third_run)
    benchmark.main(SMALL)
    printed = capsys.readouterr().out
    assert printed.count('| resnet18') == 2
    assert 'Left out: resnet18-mod_in1k, skip bound (inference, cpu, eager, batch 1' in printed
    assert 'out of memory' in printed


def test_deployed_networks_and_whether_the_operator_ran(quick, capsys):
    benchmark.main([*SMALL, '--runtimes', 'deploy', '--json', 'speed.json'])
    with open('speed.json') as file:
        content = json.load(file)
    assert [result['config'] for result in content['results']] == [
        'resnet18_in1k',
        'resnet18-mod_in1k',
        'resnet18-mod_in1k',
    ]
    operator = operator_problem() or 'C++'
    assert content['switches']['operator'] == operator
    assert f'operator={operator}' in capsys.readouterr().out.splitlines()[0]


def test_interrupted_keeps_what_is_complete(quick, monkeypatch, capsys):
    def interrupt_second(self, setting, advance, run=benchmark_setting.Benchmark.run):
        if setting.batch_size == 2:
            raise KeyboardInterrupt
        return run(self, setting, advance)

    monkeypatch.setattr(benchmark_setting.Benchmark, 'run', interrupt_second)
    with pytest.raises(SystemExit) as end:
        benchmark.main([*SMALL, '--batch-sizes', '1', '2', '--json', 'speed.json', '--no-bound'])
    assert end.value.code == 130
    assert capsys.readouterr().out.count('| resnet18') == 2
    assert len(read_speed(benchmark.Path('speed.json')).times) == 1


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['none'], 'none.py does not exist'),
        (['--json', 'none/speed.json'], 'there is no folder none'),
        (['--show', 'none.json'], 'none.json cannot be read'),
        (['--runtimes', 'cuda-graph', '--device', 'cpu'], 'cuda-graph needs a GPU'),
        (['--runtimes', 'deploy', '--what', 'training'], 'cannot train'),
    ],
)
def test_bad_input(options, message, fails):
    assert message in fails(benchmark.main, *options)
