"""Results: writing and reading, damaged files, summaries, expected durations and locks."""

import json
import subprocess

import pytest
from results import Busy, Results, find_equal_run, locked, summaries

from mmcnnmod.errors import UserError

from ...utils.experiments import make_plan, make_run


def test_runs_are_stored_in_the_order_of_the_plan(tmp_path):
    results = Results(tmp_path / 'out', make_plan())
    results.add(make_run('MoD', 0, 88.0), None)
    results.add(make_run('R34', 1, 90.0), dict(params=1, macs=2))
    results.add(make_run('R34', 0, 91.0), None)
    again = Results(tmp_path / 'out', make_plan())
    assert [(run['arm'], run['seed']) for run in again.runs] == [('R34', 0), ('R34', 1), ('MoD', 0)]
    assert again.costs == {'R34': dict(params=1, macs=2)}
    assert again.find('R34', 1)['score'] == 90.0
    assert again.find('MoD', 1) is None
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['p.json']


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda content: content.update(metric='mIoU'), 'scores of mIoU'),
        (lambda content: content['runs'][0].pop('score'), r"runs\[0\] has no 'score'"),
        (lambda content: content.pop('runs'), "has no 'runs'"),
    ],
)
def test_invalid_results_raise_an_error(tmp_path, change, words):
    Results(tmp_path, make_plan()).add(make_run('R34', 0, 90.0), None)
    content = json.loads((tmp_path / 'p.json').read_text())
    change(content)
    (tmp_path / 'p.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        Results(tmp_path, make_plan())


def test_expected_duration_comes_from_earlier_runs_or_weights(tmp_path):
    results, plan = Results(tmp_path, make_plan()), make_plan()
    assert results.seconds(plan.arms['MoD'], 'm') is None
    results.add(make_run('R34', 0, 90.0, seconds=30.0), None)
    results.add(make_run('R34', 1, 90.0, seconds=None), None)  # interrupted
    assert results.seconds(plan.arms['R34'], 'm') == 30
    assert results.seconds(plan.arms['MoD'], 'm') == 15
    results.add(make_run('MoD', 0, 90.0, seconds=20.0), None)
    assert results.seconds(plan.arms['MoD'], 'm') == 20
    assert results.seconds(plan.arms['MoD'], 'another machine') is None


def test_mean_deviation_and_difference(tmp_path):
    results = Results(tmp_path, make_plan())
    for seed, (dense, mod) in enumerate([(90, 88), (92, 90), (94, 92)]):
        results.add(make_run('R34', seed, float(dense)), None)
        results.add(make_run('MoD', seed, float(mod)), None)
    results.add(make_run('MoD', 7, 1.0), None)  # a seed that the plan does not have
    arms = summaries(results)
    assert (arms['MoD'].mean, arms['MoD'].deviation) == (90, 2)
    # Both have a deviation of 2.
    assert arms['MoD'].against(arms['R34']) == (-2, -1)
    assert summaries(Results(tmp_path / 'other', make_plan()))['MoD'].runs == []


def test_two_processes_keep_the_runs_of_each_other(tmp_path):
    first, second = Results(tmp_path, make_plan()), Results(tmp_path, make_plan())
    first.add(make_run('R34', 0, 90.0), None)
    second.add(make_run('MoD', 0, 88.0), None)
    assert [run['arm'] for run in Results(tmp_path, make_plan()).runs] == ['R34', 'MoD']


def test_lock_is_held_by_a_process_that_inherits_it(tmp_path):
    with locked(tmp_path) as descriptor:
        child = subprocess.Popen(['sleep', '60'], pass_fds=[descriptor])
    try:
        with pytest.raises(Busy, match='another process uses'), locked(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
    with locked(tmp_path):
        pass


def test_incomplete_files_of_a_killed_process_are_removed(tmp_path):
    partial = tmp_path / '.partial-x.json'
    partial.mkdir()
    (partial / 'plan.json').write_text('{"cut')
    assert find_equal_run(tmp_path, 'top1', 'h', 0) is None
    results = Results(tmp_path, make_plan())
    results.add(make_run('R34', 0, 90.0), None)
    assert [path.name for path in tmp_path.iterdir()] == [results.path.name]
