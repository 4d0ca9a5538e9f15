"""Reading measured speed and accuracies, and the errors for invalid files."""

import json
import re

import pytest

from mmcnnmod.analysis.measurements import Setting, read_accuracies, read_speed
from mmcnnmod.errors import UserError

RESULT = dict(
    config='resnet50_in1k', device='cpu', runtime='eager', batch_size=1, dtype='float32',
    median_ms=37.1,
)  # fmt: skip
SPEED = dict(machine='2 cores', date='2026-11-21', versions={'torch': '2.11.0'}, results=[RESULT])
SETTING = Setting('cpu', 'eager', 1, 'float32')


@pytest.fixture
def write(tmp_path):
    def write(content, name='file.json'):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_read_speed_groups_times_by_setting(write):
    results = [
        RESULT,
        {**RESULT, 'config': 'other', 'median_ms': 30, 'spread': 0.1},
        {**RESULT, 'batch_size': 8},
        {**RESULT, 'what': 'skip bound', 'median_ms': 9},
        {**RESULT, 'what': 'inference', 'device': 'cuda'},
    ]
    speed = read_speed(write({**SPEED, 'results': results}))
    assert speed.times == {
        SETTING: {'resnet50_in1k': 37.1, 'other': 30},
        Setting('cpu', 'eager', 8, 'float32'): {'resnet50_in1k': 37.1},
        Setting('cuda', 'eager', 1, 'float32'): {'resnet50_in1k': 37.1},
    }
    assert str(SETTING) == 'cpu, eager, batch 1, float32'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'is not JSON'),
        ([1], r'must be an object, got \[1\]'),
        ({**SPEED, 'results': 3}, "'results' must be a list, got 3"),
        ({'results': []}, "has no 'machine', which must be a text"),
        ({**SPEED, 'results': [3]}, r'results\[0\] must be an object'),
        ({**SPEED, 'results': [{**RESULT, 'median_ms': '3'}]}, "'median_ms' must be a number"),
        ({**SPEED, 'results': [{**RESULT, 'median_ms': -3}]}, "'median_ms' must be above 0"),
        ({**SPEED, 'results': [{**RESULT, 'batch_size': True}]}, 'must be an integer, got True'),
        ({**SPEED, 'results': [{**RESULT, 'device': 'gpu'}]}, "device 'gpu' is none of cpu, cuda"),
        ({**SPEED, 'results': [RESULT, RESULT]}, r'results\[1\]: resnet50_in1k occurs twice'),
    ],
)
def test_error_of_invalid_speed_is_one_line(write, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read_speed(write(content))
    assert re.match(r'.*file\.json', str(caught.value))
    assert '\n' not in str(caught.value)


def test_read_accuracies_of_results_and_experiments(write):
    results = write({'results': [{'config': 'resnet50_in1k', 'top1': 76}]})
    record = {
        'config': 'configs/resnet50-mod_in1k.py',
        'seeds': {},
        'mean': {'accuracy/top1': 74.5},
    }
    seeds = write(record, 'seeds.json')
    runs = [dict(arm='resnet75-mod_in1k', seed=seed, score=75.0 + seed) for seed in range(3)]
    experiment = write(dict(metric='accuracy/top1', runs=runs), 'experiment.json')
    assert read_accuracies([results, seeds, experiment]) == {
        'resnet50_in1k': 76,
        'resnet50-mod_in1k': 74.5,
        'resnet75-mod_in1k': 76,
    }


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({}, "has no 'results'"),
        ({'results': [{'config': 'a'}]}, r"results\[0\] has no 'top1'"),
        ({'results': [{'config': 'a', 'top1': 1}] * 2}, 'a occurs twice'),
        ({'metric': 'mIoU', 'runs': []}, 'has scores of mIoU, not of accuracy/top1'),
        ({'metric': 'accuracy/top1', 'runs': [{'arm': 'a'}]}, r"runs\[0\] has no 'score'"),
        ({'seeds': {}, 'config': 'a.py', 'mean': {}}, "mean has no 'accuracy/top1'"),
    ],
)
def test_error_of_invalid_accuracies(write, content, message):
    with pytest.raises(UserError, match=message):
        read_accuracies([write(content)])
