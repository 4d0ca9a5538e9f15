"""What a training leaves: the learning curve over a resumption, and what is missing in it."""

from dataclasses import replace

import pytest
from mmengine.config import Config
from subprocess_runner import RunFailed
from work_dir import choose_checkpoint, evaluated, read_work_dir

from mmcnnmod.errors import UserError

from ...utils.experiments import log, make_plan, save_checkpoint


def test_the_curve_goes_over_a_resumption(tmp_path):
    train = dict(loss=1.0, time=0.4, data_time=0.1)
    log(tmp_path, train, dict(top1=10.0, step=2), dict(top1=20.0, step=4), start='20260101')
    log(tmp_path, train, dict(top1=30.0, step=4), dict(top1=40.0, step=6), start='20260102')
    with (tmp_path / '20260102/vis_data/scalars.json').open('a') as file:
        file.write('{"cut')
    (tmp_path / 'runtime_stats.json').write_text('{"train_seconds": 5, "peak_memory_mb": 7}')
    curve = [[2, 10.0], [4, 30.0], [6, 40.0]]
    rest = dict(curve=curve, data_share=0.25, train_seconds=5, peak_memory_mb=7)
    plan = make_plan()
    assert read_work_dir(tmp_path, plan) == dict(score=40.0, **rest)
    tested = replace(plan, test=True)
    assert read_work_dir(tmp_path, tested, last=8) == rest
    with pytest.raises(UserError, match='has no score mIoU, but top1; correct the metric'):
        read_work_dir(tmp_path, replace(plan, metric='mIoU'))
    with pytest.raises(UserError, match='last evaluated at step 6, not at the end, 8'):
        read_work_dir(tmp_path, plan, last=8)
    with pytest.raises(UserError, match='was never evaluated'):
        read_work_dir(tmp_path / 'empty', plan)


def test_checkpoints_whose_evaluation_was_not_due_may_be_resumed(tmp_path):
    cfg = Config(dict(train_cfg=dict(max_epochs=9, val_interval=4, val_begin=5)))
    for epoch in (4, 7, 8, 9):
        save_checkpoint(tmp_path / f'epoch_{epoch}.pth')
    names = [path.name for path in evaluated(tmp_path, make_plan(), cfg)]
    assert names == ['epoch_7.pth', 'epoch_4.pth']
    log(tmp_path, dict(top1=1.0, step=8))
    assert evaluated(tmp_path, make_plan(), cfg)[0].name == 'epoch_8.pth'
    tested = replace(make_plan(), test=True)
    assert evaluated(tmp_path, tested, cfg)[0].name == 'epoch_8.pth'
    # Nothing is known of when a training with such intervals is evaluated.
    cfg.train_cfg.dynamic_intervals = [(8, 1)]
    assert evaluated(tmp_path, tested, cfg)[0].name == 'epoch_9.pth'


def test_a_training_without_a_best_checkpoint_cannot_be_tested(tmp_path):
    cfg = Config(dict(val_cfg=dict(), default_hooks=dict(checkpoint=dict(save_best=['a', 'b']))))
    with pytest.raises(RunFailed, match='left no checkpoint in'):
        choose_checkpoint(tmp_path, cfg)
    save_checkpoint(tmp_path / 'epoch_1.pth')
    with pytest.raises(RunFailed, match=r'has no best checkpoint: .* was never evaluated'):
        choose_checkpoint(tmp_path, cfg)
