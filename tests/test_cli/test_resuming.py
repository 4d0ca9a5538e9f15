"""The checkpoint that ``--resume`` without a file chooses."""

import os

import pytest
import torch
from mmengine.config import Config

from mmcnnmod.cli.resuming import checkpoint_to_resume, checkpoints
from mmcnnmod.cli.train import apply_options
from mmcnnmod.errors import UserError


class WorkDir:
    """A work dir; each checkpoint is newer than those written before it."""

    def __init__(self, path):
        self.path = path
        self.cfg = Config(dict(work_dir=str(path)))
        self.log = []
        self.time = 1e9

    def write(self, *names, truncated=False):
        for name in names:
            file = self.path / name
            file.parent.mkdir(exist_ok=True)
            torch.save({'state_dict': {'a': torch.ones(1)}, 'meta': {}}, file)
            if truncated:
                file.write_bytes(file.read_bytes()[:200])
            self.time += 1
            os.utime(file, (self.time, self.time))

    def set_last(self, name):
        (self.path / 'last_checkpoint').write_text(str(self.path / name))

    def chosen(self):
        path = checkpoint_to_resume(self.cfg, self.log.append)
        return path and os.path.relpath(path, self.path)


@pytest.fixture
def work_dir(tmp_path):
    return WorkDir(tmp_path)


def test_best_and_published_checkpoints_are_not_resumed(work_dir):
    work_dir.write('best_acc_epoch_1.pth', 'epoch_1-12345678.pth')
    assert work_dir.chosen() is None


def test_last_checkpoint(work_dir):
    work_dir.write('iter_4.pth', 'iter_8.pth', 'iter_12.pth')
    work_dir.set_last('iter_12.pth')
    assert work_dir.chosen() == 'iter_12.pth'
    assert not work_dir.log


def test_newer_checkpoint_than_last_checkpoint(work_dir):
    work_dir.write('iter_4.pth', 'iter_8.pth')
    work_dir.set_last('iter_4.pth')
    assert work_dir.chosen() == 'iter_8.pth'


def test_checkpoint_of_an_earlier_training_is_skipped(work_dir):
    work_dir.write('iter_900.pth', 'iter_4.pth')
    work_dir.set_last('iter_4.pth')
    assert work_dir.chosen() == 'iter_4.pth'


def test_truncated_and_missing_checkpoints_are_skipped(work_dir):
    """mmengine's own hook leaves them when it is killed."""
    work_dir.write('iter_2.pth', 'iter_4.pth')
    work_dir.write('iter_8.pth', 'iter_12.pth', truncated=True)
    work_dir.set_last('iter_6.pth')
    assert work_dir.chosen() == 'iter_4.pth'
    skipped = [line.removeprefix('skipped: checkpoint ').split()[0] for line in work_dir.log]
    names = ('iter_12.pth', 'iter_8.pth', 'iter_6.pth')
    assert skipped == [str(work_dir.path / name) for name in names]


def test_no_readable_checkpoint(work_dir):
    work_dir.write('epoch_1.pth', 'epoch_2.pth', truncated=True)
    with pytest.raises(UserError, match=r'cannot resume: .*epoch_2\.pth'):
        work_dir.chosen()


def test_newest_of_epochs_and_iterations(work_dir):
    work_dir.write('epoch_1.pth', 'iter_900.pth', 'epoch_2.pth')
    assert work_dir.chosen() == 'epoch_2.pth'


def test_out_dir_and_filename_tmpl_of_the_hook(work_dir):
    hook = dict(out_dir=str(work_dir.path / 'out'), filename_tmpl='step_{}.pth')
    work_dir.cfg.default_hooks = dict(checkpoint=hook)
    name = f'out/{work_dir.path.name}'
    (work_dir.path / 'out').mkdir()
    work_dir.write(f'{name}/step_9.pth', f'{name}/step_10.pth', f'{name}/other_11.pth')
    assert work_dir.chosen() == f'{name}/step_10.pth'
    assert len(checkpoints(work_dir.path / name)) == 0


@pytest.mark.parametrize('named', ['s3://bucket/iter_4.pth', 'iter_4.pth'])
def test_urls_and_folders_of_deepspeed_are_left_to_mmengine(work_dir, named):
    if '://' not in named:
        named = str(work_dir.path / named)
        os.mkdir(named)
    (work_dir.path / 'last_checkpoint').write_text(named)
    assert checkpoint_to_resume(work_dir.cfg, print) == named


@pytest.mark.parametrize('exists', [False, True])
def test_without_a_checkpoint_training_starts_as_configured(work_dir, exists):
    if exists:
        work_dir.write('iter_4.pth')
    work_dir.cfg.load_from = 'start.pth'

    class Options:
        resume = 'auto'
        no_validate = amp = auto_scale_lr = False
        pretrained = None

    apply_options(work_dir.cfg, Options)
    start = str(work_dir.path / 'iter_4.pth') if exists else 'start.pth'
    assert (work_dir.cfg.resume, work_dir.cfg.load_from) == (exists, start)
