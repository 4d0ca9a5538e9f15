"""Results: what is written is read again, what is damaged is named, how long a run will take."""

import json
import subprocess
from pathlib import Path

import pytest

from mmcnnmod.errors import UserError
from mmcnnmod.evidence import Arm, Plan, Results
from mmcnnmod.evidence.lock import locked
from mmcnnmod.evidence.summary import summaries
from mmcnnmod.evidence.work_dir import mean_and_range, read_work_dir


def make_plan(*arms, seeds=(0, 1, 2)):
    arms = arms or (Arm('R34', Path('x.py')), Arm('MoD', Path('x.py'), baseline='R34', weight=0.5))
    return Plan('p', 'Title', '', 'top1', (32, 32), seeds, {arm.name: arm for arm in arms})


def make_run(arm, seed, score, seconds=10.0, **more):
    return dict(
        arm=arm, seed=seed, score=score, curve=[[1, score - 9], [2, score]], train_seconds=8.0,
        peak_memory_mb=100, seconds=seconds, machine='m', versions=dict(torch='2'),
        config_hash='h', date='2026-11-21', **more,
    )  # fmt: skip


def test_runs_are_read_again_in_the_plans_order(tmp_path):
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
def test_damaged_results_are_named(tmp_path, change, words):
    Results(tmp_path, make_plan()).add(make_run('R34', 0, 90.0), None)
    content = json.loads((tmp_path / 'p.json').read_text())
    change(content)
    (tmp_path / 'p.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        Results(tmp_path, make_plan())


def test_a_run_takes_as_long_as_earlier_ones_or_as_the_weights_say(tmp_path):
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
    # Both have a variance of 4, so that a deviation is 2.
    assert arms['MoD'].against(arms['R34']) == (-2, -1)
    one = summaries(Results(tmp_path / 'other', make_plan()))['MoD']
    assert one.runs == []


def write_scalars(folder, start, lines):
    path = folder / start / 'vis_data'
    path.mkdir(parents=True)
    (path / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n{"cut')


def test_the_curve_goes_over_a_resumption(tmp_path):
    train = dict(loss=1.0, time=0.4, data_time=0.1)
    write_scalars(tmp_path, '20260101', [train, dict(top1=10.0, step=2), dict(top1=20.0, step=4)])
    write_scalars(tmp_path, '20260102', [train, dict(top1=30.0, step=4), dict(top1=40.0, step=6)])
    (tmp_path / 'runtime_stats.json').write_text('{"train_seconds": 5, "peak_memory_mb": 7}')
    assert read_work_dir(tmp_path, 'top1') == dict(
        score=40.0, curve=[[2, 10.0], [4, 30.0], [6, 40.0]], data_share=0.25,
        train_seconds=5, peak_memory_mb=7,
    )  # fmt: skip
    with pytest.raises(UserError, match='has no score mIoU, but top1; mend the plan'):
        read_work_dir(tmp_path, 'mIoU')
    with pytest.raises(UserError, match='evaluated at step 6 last, not at the end, 8'):
        read_work_dir(tmp_path, 'top1', last=8)
    with pytest.raises(UserError, match='was never evaluated'):
        read_work_dir(tmp_path / 'empty', 'top1')


def test_two_programs_lose_none_of_each_others_runs(tmp_path):
    one, other = Results(tmp_path, make_plan()), Results(tmp_path, make_plan())
    one.add(make_run('R34', 0, 90.0), None)
    other.add(make_run('MoD', 0, 88.0), None)
    assert [run['arm'] for run in Results(tmp_path, make_plan()).runs] == ['R34', 'MoD']


def test_a_lock_is_held_by_those_who_inherit_it(tmp_path):
    with locked(tmp_path) as descriptor:
        heir = subprocess.Popen(['sleep', '60'], pass_fds=[descriptor])
    try:
        with pytest.raises(UserError, match='another process works in'), locked(tmp_path):
            pass
    finally:
        heir.kill()
        heir.wait()
    with locked(tmp_path):
        pass


def test_a_mean_curve_has_the_steps_that_all_have():
    steps, middle, low, high = mean_and_range([[[1, 2.0], [2, 4.0]], [[2, 8.0], [3, 9.0]]])
    assert (steps, middle, low, high) == ([2], [6.0], [4.0], [8.0])
