"""Results from times, and tables from results."""

import pytest

from mmcnnmod.analysis.candidates import Candidate
from mmcnnmod.analysis.measurements import Setting
from mmcnnmod.analysis.speed import results_of, speed_report

DENSE, MOD = Candidate('resnet50_in1k'), Candidate('resnet75-mod_in1k')
BOUND = Candidate('resnet75-mod_in1k', bound=True)
SETTING = Setting('cpu', 'eager', 1, 'float32', 'channels_last')
TIMES = {
    DENSE: [20.0, 20.0, 20.2, 20.1, 20.0],
    MOD: [16.0, 16.1, 16.0, 16.2, 16.0],
    BOUND: [15.0, 17.0, 14.0, 18.0, 16.0],
}
PEAKS = {DENSE: 30.0, MOD: 25.0, BOUND: None}


@pytest.fixture
def content():
    results = results_of(SETTING, TIMES, PEAKS)
    facts = dict(size=[224, 224], threads=2)
    return dict(
        machine='2 cores',
        date='2026-11-21',
        versions={'torch': '2.11.0'},
        results=[{**result, **facts} for result in results],
        left_out=['resnet50_in1k (openvino): no such thing'],
    )


def test_results_of(content):
    dense, mod, bound = content['results']
    assert 'speedup' not in dense
    assert (dense['median_ms'], dense['iqr_ms'], dense['rounds']) == (20.0, 0.1, 5)
    assert mod['baseline'] == 'resnet50_in1k'
    assert mod['speedup'] == 20 / 16
    assert mod['overhead'] == 0
    assert mod['noisy'] == ['overhead']
    assert mod['paper_speedup'] == 1.25
    assert bound['what'] == 'inference skip bound'
    assert bound['speedup'] == 20 / 16
    assert 'paper_speedup' not in bound
    assert 'overhead' not in bound


def test_papers_speed_up_is_that_of_the_same_device():
    times = {key: [1.0] for key in [*TIMES, Candidate('resnet50-mod-c16_in1k')]}
    results = results_of(SETTING._replace(device='cuda'), times, dict.fromkeys(times))
    printed = {result['config']: result['paper_speedup'] for result in results
               if 'paper_speedup' in result}  # fmt: skip
    assert printed == {'resnet75-mod_in1k': 1.15}


def test_training_has_no_speed_up_of_the_paper():
    results = results_of(SETTING._replace(what='training'), TIMES, PEAKS)
    assert {result['what'] for result in results} == {'training', 'training skip bound'}
    assert all('paper_speedup' not in result for result in results)


def test_speed_report(content):
    lines = speed_report(content)
    assert lines[0] == '2 cores; 2026-11-21; torch 2.11.0.'
    assert 'Inference, cpu, eager, batch 1, float32, channels_last, 2 threads:' in lines
    assert '| resnet50_in1k (224x224) | 20.00 | 0.10 | - | - | - | 30.0 | - | - |' in lines
    (mod,) = (line for line in lines if line.startswith('| resnet75'))
    assert mod == (
        '| resnet75-mod_in1k (224x224) | 16.00 | 0.10 | 1.250 | 1.250 | +0.0% ? | 25.0 | - | 1.25 |'
    )
    assert any(line.startswith('?: too noisy') for line in lines)
    assert lines[-1] == 'Left out: resnet50_in1k (openvino): no such thing'


def test_skip_bound_without_its_network_is_not_reported(content):
    content['results'] = [x for x in content['results'] if x['what'].endswith('bound')]
    assert speed_report(content)[1:] == ['', '', f'Left out: {content["left_out"][0]}']
