"""Checkpoints are always complete, and old ones are removed."""

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmcnnmod import files
from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.engine import safe_checkpoint_hook
from mmcnnmod.errors import UserError

from ..utils.mmengine_run import assert_same
from ..utils.training import interrupted, last, make_runner, result, resumed


@pytest.mark.parametrize('checkpoint', [
    dict(max_keep_ckpts=1), dict(max_keep_ckpts=2), dict(save_best='acc', max_keep_ckpts=1)
])  # fmt: skip
@pytest.mark.parametrize('moment', ['before', 'after'])
def test_killed_while_writing(tmp_path, monkeypatch, checkpoint, moment):
    """Files with the name of a checkpoint are always complete."""
    options = dict(by_epoch=False, checkpoint=checkpoint)
    make_runner(tmp_path / 'whole', **options).train()
    rename, count = Path.replace, 0
    for kill in range(1, 30):
        work_dir, count = tmp_path / f'{kill}', 0

        def killed(path, target, kill=kill):
            nonlocal count
            count += 1
            if moment == 'after':
                rename(path, target)
            if count == kill:
                raise KeyboardInterrupt
            if moment == 'before':
                rename(path, target)

        monkeypatch.setattr(Path, 'replace', killed)
        try:
            make_runner(work_dir, **options).train()
        except KeyboardInterrupt:
            monkeypatch.undo()
        else:
            break
        found = sorted(work_dir.glob('*.pth'))
        for path in found:
            read_checkpoint(path)
        if not found:
            assert kill == 1
            continue
        if (work_dir / 'last_checkpoint').exists():
            assert last(work_dir).exists()
            resumed(work_dir, **options).train()
            assert_same(result(tmp_path / 'whole'), result(work_dir))
            regular = list(work_dir.glob('iter_*.pth'))
            assert len(regular) == checkpoint['max_keep_ckpts']
    assert kill > 10


def test_a_published_checkpoint(tmp_path):
    keys = ['state_dict', 'meta']
    make_runner(tmp_path, checkpoint=dict(published_keys=keys, save_best='acc')).train()
    published = {path.stem.rsplit('-')[0]: path for path in tmp_path.glob('*-????????.pth')}
    (best,) = tmp_path.glob('best_acc_epoch_?.pth')
    assert set(published) == {'epoch_3', best.stem}
    for path in published.values():
        assert set(torch.load(path, weights_only=True)) == set(keys)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    class Full(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            if runner.iter == 5:
                monkeypatch.setattr(files, 'sync', full)

    def full(path):
        raise OSError(28, 'No space left on device')

    with pytest.raises(UserError) as problem:
        make_runner(
            tmp_path, by_epoch=False, hooks=[Full()], checkpoint=dict(max_keep_ckpts=1)
        ).train()
    assert 'iter_6.pth cannot be written: No space left on device; free some space' in str(
        problem.value
    )
    assert str(problem.value).endswith(f'{tmp_path / "iter_5.pth"})')
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_5.pth']
    assert not list(tmp_path.glob('.partial-*'))


def test_processes_that_found_different_checkpoints(tmp_path, monkeypatch):
    """Two hosts, and the second one's work dir is older."""
    monkeypatch.setattr(
        safe_checkpoint_hook, 'all_gather_object', lambda place: [place, (place[0], 3)]
    )
    with pytest.raises(UserError, match='different checkpoints; copy the work dir to every host'):
        make_runner(tmp_path).train()
    assert not list(tmp_path.glob('*.pth'))


def test_the_best_checkpoint_of_another_folder_stays(tmp_path):
    """A checkpoint may name any path as the best one so far."""
    thesis = tmp_path / 'best_thesis'
    thesis.mkdir()
    options = dict(checkpoint=dict(save_best='acc', rule='less'))
    interrupted(tmp_path / 'run', 5, **options)
    path = last(tmp_path / 'run')
    content = torch.load(path, weights_only=False)
    content['message_hub']['runtime_info'].update(best_ckpt=str(thesis), best_score=1e9)
    torch.save(content, path)
    make_runner(tmp_path / 'run', resume=str(path), **options).train()
    assert thesis.exists()
    assert list((tmp_path / 'run').glob('best_*.pth'))


def test_what_a_killed_write_has_left_is_removed(tmp_path):
    interrupted(tmp_path, 6, by_epoch=False)
    (tmp_path / '.partial-iter_7.pth').write_bytes(b'half')
    resumed(tmp_path, by_epoch=False).train()
    assert not list(tmp_path.glob('.partial-*'))
