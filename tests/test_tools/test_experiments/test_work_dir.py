"""Reading a work dir: the learning curve over resumptions, and checkpoints."""

from dataclasses import replace

import pytest
from mmengine.config import Config
from subprocess_runner import RunFailed
from work_dir import choose_checkpoint, evaluated_checkpoints, read_work_dir

from mmcnnmod.errors import UserError

from ...utils.experiments import log, make_plan, save_checkpoint


def test_curve_continues_after_a_resumption(tmp_path):
    train = dict(loss=1.0, time=0.4, data_time=0.1)
    log(tmp_path, train, dict(top1=10.0, step=2), dict(top1=20.0, step=4), start='20260101')
    log(tmp_path, train, dict(top1=30.0, step=4), dict(top1=40.0, step=6), start='20260102')
    with (tmp_path / '20260102/vis_data/scalars.json').open('a') as file:
        file.write('{"cut')
    (tmp_path / 'runtime_stats.json').write_text('{"train_seconds": 5, "peak_memory_mb": 7}')
    curve = [[2, 10.0], [4, 30.0], [6, 40.0]]
    rest = dict(curve=curve, data_share=0.25, train_seconds=5, peak_memory_mb=7)
    plan = make_plan()
    assert read_work_dir(tmp_path, plan, last=6) == dict(score=40.0, **rest)
    assert read_work_dir(tmp_path, make_plan(test=True), last=8) == rest
    with pytest.raises(UserError, match='has no score mIoU, but top1; correct the metric'):
        read_work_dir(tmp_path, replace(plan, metric='mIoU'), last=6)
    with pytest.raises(UserError, match='last evaluated at step 6, not at the end, 8'):
        read_work_dir(tmp_path, plan, last=8)
    with pytest.raises(UserError, match='was never evaluated'):
        read_work_dir(tmp_path / 'empty', plan, last=6)


def test_checkpoints_with_missing_evaluations_are_not_resumed(tmp_path):
    cfg = Config(dict(train_cfg=dict(max_epochs=9, val_interval=4, val_begin=5)))
    for epoch in (4, 7, 8, 9):
        save_checkpoint(tmp_path / f'epoch_{epoch}.pth')

    def names(**options):
        paths = evaluated_checkpoints(tmp_path, make_plan(**options), cfg)
        return [path.name for path in paths]

    assert names() == ['epoch_7.pth', 'epoch_4.pth']
    log(tmp_path, dict(top1=1.0, step=8))
    assert names()[0] == names(test=True)[0] == 'epoch_8.pth'
    # With such intervals it is unknown which evaluations were due.
    cfg.train_cfg.dynamic_intervals = [(8, 1)]
    assert names(test=True)[0] == 'epoch_9.pth'


def test_training_without_a_best_checkpoint_raises_an_error(tmp_path):
    cfg = Config(dict(val_cfg=dict(), default_hooks=dict(checkpoint=dict(save_best=['a', 'b']))))
    with pytest.raises(RunFailed, match='left no checkpoint in'):
        choose_checkpoint(tmp_path, cfg)
    save_checkpoint(tmp_path / 'epoch_1.pth')
    with pytest.raises(RunFailed, match=r'has no best checkpoint: .* was never evaluated'):
        choose_checkpoint(tmp_path, cfg)
