"""Which checkpoint ``--resume`` resumes from."""

import os

import pytest
import torch
from mmengine.config import Config

from mmcnnmod.cli.resuming import checkpoints, newest_whole
from mmcnnmod.cli.train import apply_options
from mmcnnmod.errors import UserError


class WorkDir:
    """A folder with checkpoints; later ones are newer."""

    def __init__(self, path):
        self.path = path
        self.cfg = Config(dict(work_dir=str(path)))
        self.lines = []
        self.time = 1e9

    def write(self, *names, whole=True):
        for name in names:
            file = self.path / name
            file.parent.mkdir(exist_ok=True)
            torch.save({'state_dict': {'a': torch.ones(1)}, 'meta': {}}, file)
            if not whole:
                file.write_bytes(file.read_bytes()[:200])
            self.time += 1
            os.utime(file, (self.time, self.time))

    def say_last(self, name):
        (self.path / 'last_checkpoint').write_text(str(self.path / name))

    def found(self):
        path = newest_whole(self.cfg, self.lines.append)
        return path and os.path.relpath(path, self.path)


@pytest.fixture
def work_dir(tmp_path):
    return WorkDir(tmp_path)


def test_without_checkpoints(work_dir):
    assert work_dir.found() is None
    work_dir.write('best_acc_epoch_1.pth', 'epoch_1-12345678.pth')  # not to resume from
    assert work_dir.found() is None


def test_the_last_checkpoint(work_dir):
    work_dir.write('iter_4.pth', 'iter_8.pth', 'iter_12.pth')
    work_dir.say_last('iter_12.pth')
    assert work_dir.found() == 'iter_12.pth'
    assert not work_dir.lines


def test_training_was_killed_between_a_checkpoint_and_last_checkpoint(work_dir):
    work_dir.write('iter_4.pth', 'iter_8.pth')
    work_dir.say_last('iter_4.pth')
    assert work_dir.found() == 'iter_8.pth'


def test_an_earlier_training_in_the_same_folder(work_dir):
    work_dir.write('iter_900.pth', 'iter_4.pth')
    work_dir.say_last('iter_4.pth')
    assert work_dir.found() == 'iter_4.pth'


def test_truncated_files_are_passed_over(work_dir):
    """As mmengine's own hook leaves them when killed: the named file has been removed."""
    work_dir.write('iter_2.pth', 'iter_4.pth')
    work_dir.write('iter_8.pth', 'iter_12.pth', whole=False)
    work_dir.say_last('iter_6.pth')
    assert work_dir.found() == 'iter_4.pth'
    assert [name for line in work_dir.lines for name in line.split() if name.endswith('.pth')] == [
        str(work_dir.path / name) for name in ('iter_12.pth', 'iter_8.pth', 'iter_6.pth')
    ]
    assert all(line.startswith('skipped: ') for line in work_dir.lines)


def test_no_readable_checkpoint(work_dir):
    work_dir.write('epoch_1.pth', 'epoch_2.pth', whole=False)
    with pytest.raises(UserError, match=r'cannot resume: .*epoch_2\.pth'):
        work_dir.found()


def test_by_age_if_there_are_epochs_and_iterations(work_dir):
    work_dir.write('epoch_1.pth', 'iter_900.pth', 'epoch_2.pth')
    assert work_dir.found() == 'epoch_2.pth'


def test_another_folder_and_other_names(work_dir):
    hook = dict(out_dir=str(work_dir.path / 'out'), filename_tmpl='step_{}.pth')
    work_dir.cfg.default_hooks = dict(checkpoint=hook)
    name = f'out/{work_dir.path.name}'
    (work_dir.path / 'out').mkdir()
    work_dir.write(f'{name}/step_9.pth', f'{name}/step_10.pth', f'{name}/other_11.pth')
    assert work_dir.found() == f'{name}/step_10.pth'
    assert len(checkpoints(work_dir.path / name)) == 0


@pytest.mark.parametrize('named', ['s3://bucket/iter_4.pth', 'iter_4.pth'])
def test_a_checkpoint_that_is_no_file(work_dir, named):
    """In an object store, or DeepSpeed's folder: mmengine reads it."""
    if '://' not in named:
        named = str(work_dir.path / named)
        os.mkdir(named)
    (work_dir.path / 'last_checkpoint').write_text(named)
    assert newest_whole(work_dir.cfg, print) == named


@pytest.mark.parametrize('there', [False, True])
def test_without_a_checkpoint_training_starts_as_configured(work_dir, there):
    if there:
        work_dir.write('iter_4.pth')
    work_dir.cfg.load_from = 'start.pth'

    class Options:
        resume = 'auto'
        no_validate = amp = auto_scale_lr = False
        pretrained = None

    apply_options(work_dir.cfg, Options)
    start = str(work_dir.path / 'iter_4.pth') if there else 'start.pth'
    assert (work_dir.cfg.resume, work_dir.cfg.load_from) == (there, start)
