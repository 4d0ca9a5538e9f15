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
    """Make each measurement as short as possible."""
    monkeypatch.setattr(
        benchmark_setting,
        'interleaved',
        lambda calls, rounds, block, advance: interleaved(calls, rounds, 0, advance),
    )


def test_results_are_written_and_shown_again(quick, monkeypatch, capsys):
    options = [*SMALL, '--batch-sizes', '1', '2', '--json', 'speed.json', '--machine', 'für mich']
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *options])
    monkeypatch.setenv('OMP_WAIT_POLICY', 'PASSIVE')
    runpy.run_path(str(TOOL), run_name='__main__')
    printed = capsys.readouterr().out

    with open('speed.json', encoding='utf-8') as file:
        content = json.load(file)
    assert content['machine'] == 'für mich'
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
    assert printed.startswith('für mich; ')
    assert 'OMP_WAIT_POLICY=PASSIVE' in printed.splitlines()[0]
    assert printed.count('| Inference, cpu, eager, batch') == 2  # the overview


def test_training(quick, compiled_graphs, capsys):
    options = ['--what', 'training', '--runtimes', 'eager', 'compile', '--batch-sizes', '2']
    benchmark.main([*SMALL, *options, '--no-bound'])
    printed = capsys.readouterr().out
    for runtime in ('eager', 'compile'):
        assert f'Training, cpu, {runtime}, batch 2, float32' in printed
    rows = [line for line in printed.splitlines() if line.startswith('| resnet18')]
    assert len(rows) == 4
    assert all('%' not in row for row in rows)  # no bound to compare with
    assert 'Left out' not in printed
    assert len(compiled_graphs) == 2  # the backbone of each network


@pytest.mark.parametrize('runs', [0, 2], ids=['when it is prepared', 'when it is timed'])
def test_network_that_fails_is_left_out(quick, monkeypatch, capsys, runs):
    make_call, calls = benchmark_setting.Benchmark.call, []

    def make_failing_bounds(self, source, bound, setting):
        call = make_call(self, source, bound, setting)

        def fail_after_runs():
            calls.append(1)
            if len(calls) > runs:
                raise RuntimeError('out of\nmemory')
            return call()

        return fail_after_runs if bound else call

    monkeypatch.setattr(benchmark_setting.Benchmark, 'call', make_failing_bounds)
    benchmark.main(SMALL)
    printed = capsys.readouterr().out
    assert printed.count('| resnet18') == 2
    assert 'Left out: resnet18-mod_in1k, skip bound (inference, cpu, eager, batch 1' in printed
    assert 'out of memory' in printed


def test_deployed_networks_and_their_operator(quick, capsys):
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


def test_interrupted_benchmark_keeps_complete_results(quick, monkeypatch, capsys):
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
        (['--json', 'none/speed.json'], 'the folder none does not exist'),
        (['--show', 'none.json'], 'none.json cannot be read'),
        (['--runtimes', 'cuda-graph', '--device', 'cpu'], 'cuda-graph needs a GPU'),
        (['--runtimes', 'deploy', '--what', 'training'], 'cannot train'),
    ],
)
def test_error_of_invalid_options(options, message, fails):
    assert message in fails(benchmark.main, *options)
