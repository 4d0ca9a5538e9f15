"""Checkpoints are always complete, and old ones are removed."""

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmcnnmod import files
from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.engine import safe_checkpoint_hook
from mmcnnmod.errors import UserError

from ..utils.training import (
    assert_same_result,
    last_checkpoint,
    make_resumed_runner,
    make_runner,
    train_and_interrupt,
)


class KillAtReplace:
    """Replaces Path.replace; interrupts before or after the call of this number."""

    def __init__(self, number, moment):
        self.number, self.moment = number, moment
        self.calls, self.replace = 0, Path.replace

    def __call__(self, path, target):
        self.calls += 1
        if self.calls == self.number and self.moment == 'before':
            raise KeyboardInterrupt
        self.replace(path, target)
        if self.calls == self.number:
            raise KeyboardInterrupt


@pytest.mark.parametrize('checkpoint', [
    dict(max_keep_ckpts=1), dict(max_keep_ckpts=2), dict(save_best='acc', max_keep_ckpts=1)
])  # fmt: skip
@pytest.mark.parametrize('moment', ['before', 'after'])
def test_checkpoints_are_complete_after_any_kill(tmp_path, monkeypatch, checkpoint, moment):
    options = dict(by_epoch=False, checkpoint=checkpoint)
    make_runner(tmp_path / 'full', **options).train()
    for number in range(1, 30):
        work_dir = tmp_path / f'{number}'
        kill = KillAtReplace(number, moment)
        monkeypatch.setattr(Path, 'replace', lambda path, target, kill=kill: kill(path, target))
        try:
            make_runner(work_dir, **options).train()
        except KeyboardInterrupt:
            monkeypatch.undo()
        else:
            break
        found = list(work_dir.glob('*.pth'))
        for path in found:
            read_checkpoint(path)
        assert found or number == 1
        if (work_dir / 'last_checkpoint').exists():
            assert last_checkpoint(work_dir).exists()
            make_resumed_runner(work_dir, **options).train()
            assert_same_result(tmp_path / 'full', work_dir)
            assert len(list(work_dir.glob('iter_*.pth'))) == checkpoint['max_keep_ckpts']
    assert number > 10


def test_published_checkpoints_contain_published_keys(tmp_path):
    keys = ['state_dict', 'meta']
    make_runner(tmp_path, checkpoint=dict(published_keys=keys, save_best='acc')).train()
    published = {path.stem.rsplit('-')[0]: path for path in tmp_path.glob('*-????????.pth')}
    (best,) = tmp_path.glob('best_acc_epoch_?.pth')
    assert set(published) == {'epoch_3', best.stem}
    for path in published.values():
        assert set(torch.load(path, weights_only=True)) == set(keys)


def test_full_disk_raises_an_error_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    class FillDisk(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            if runner.iter == 5:
                monkeypatch.setattr(files, 'sync', raise_no_space)

    def raise_no_space(path):
        raise OSError(28, 'No space left on device')

    options = dict(by_epoch=False, checkpoint=dict(max_keep_ckpts=1))
    with pytest.raises(UserError) as problem:
        make_runner(tmp_path, hooks=[FillDisk()], **options).train()
    message = str(problem.value)
    assert 'iter_6.pth cannot be written: No space left on device; free some space' in message
    assert message.endswith(f'{tmp_path / "iter_5.pth"})')
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_5.pth']
    assert not list(tmp_path.glob('.partial-*'))


def test_processes_with_different_checkpoints_raise_an_error(tmp_path, monkeypatch):
    """For example, the work dir of the second host is older."""
    monkeypatch.setattr(
        safe_checkpoint_hook, 'all_gather_object', lambda position: [position, (position[0], 3)]
    )
    with pytest.raises(UserError, match='different checkpoints; copy the work dir to every host'):
        make_runner(tmp_path).train()
    assert not list(tmp_path.glob('*.pth'))


def test_best_checkpoint_in_another_folder_is_kept(tmp_path):
    """A checkpoint may name any path as that of the best checkpoint."""
    folder = tmp_path / 'best_thesis'
    folder.mkdir()
    options = dict(checkpoint=dict(save_best='acc', rule='less'))
    train_and_interrupt(tmp_path / 'run', 5, **options)
    path = last_checkpoint(tmp_path / 'run')
    content = torch.load(path, weights_only=False)
    content['message_hub']['runtime_info'].update(best_ckpt=str(folder), best_score=1e9)
    torch.save(content, path)
    make_resumed_runner(tmp_path / 'run', **options).train()
    assert folder.exists()
    assert list((tmp_path / 'run').glob('best_*.pth'))


def test_incomplete_files_of_a_killed_training_are_removed(tmp_path):
    train_and_interrupt(tmp_path, 6, by_epoch=False)
    (tmp_path / '.partial-iter_7.pth').write_bytes(b'half')
    make_resumed_runner(tmp_path, by_epoch=False).train()
    assert not list(tmp_path.glob('.partial-*'))
