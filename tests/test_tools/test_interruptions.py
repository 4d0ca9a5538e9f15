"""Programs that are killed, terminated or lose their disk; they can be resumed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmcnnmod.checkpoints import read_checkpoint

from ..utils.tasks import ROOT, TASKS, shrink

pytestmark = pytest.mark.slow
LONG = ('train_cfg.max_iters=100000', 'train_cfg.val_interval=100000')


class Training:
    """tools/train.py, which trains the small segmentor until it is stopped."""

    def __init__(self, data, work_dir, *options, more=(), **env):
        config, name, *_ = TASKS['mmseg']
        work_dir.mkdir(exist_ok=True)
        self.log = work_dir / f'log-{env.get("RANK", 0)}.txt'
        command = [
            sys.executable, ROOT / 'tools/train.py', ROOT / config, '--data-root', data / name,
            '--work-dir', work_dir, *more, '--cfg-options', *shrink('mmseg'), *LONG, *options,
        ]  # fmt: skip
        with self.log.open('w') as out:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdout=out, stderr=out, start_new_session=True,
                env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', **env},
            )  # fmt: skip

    def wait_for(self, text):
        end = time.monotonic() + 120
        while text not in self.log.read_text() and self.process.poll() is None:
            assert time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def end(self):
        """Its exit code and last line."""
        code = self.process.wait(60)
        return code, self.log.read_text().strip().splitlines()[-1]


def iterations(work_dir):
    path = (work_dir / 'last_checkpoint').read_text()
    return path, read_checkpoint(path)['meta']['iter']


@pytest.mark.parametrize('workers', [0, 2])
def test_sigterm_to_all_processes_of_a_training(data, tmp_path, workers):
    seldom = 'default_hooks.checkpoint.interval=100000'
    training = Training(data, tmp_path, seldom, f'train_dataloader.num_workers={workers}')
    training.wait_for('Iter(train)')
    os.killpg(training.process.pid, signal.SIGTERM)
    code, line = training.end()
    path, done = iterations(tmp_path)
    assert code == 143
    assert line.endswith(
        f'stopped by SIGTERM after iteration {done}: checkpoint {path} is written, continue '
        'with --resume'
    )
    training = Training(data, tmp_path, f'train_cfg.max_iters={done + 1}', more=['--resume'])
    assert training.end()[0] == 0
    assert iterations(tmp_path)[1] == done + 1


@pytest.mark.parametrize('word', ['killed', 'told to stop'])
def test_one_of_two_processes_ends(data, tmp_path, word):
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        port = str(found.getsockname()[1])
    together = dict(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    options = ('env_cfg.dist_cfg.backend=gloo',)
    launcher = ['--launcher', 'pytorch']
    ranks = [
        Training(data, tmp_path, *options, more=launcher, RANK=rank, LOCAL_RANK=rank, **together)
        for rank in '01'
    ]
    ranks[0].wait_for('Saving checkpoint at 4')
    os.killpg(ranks[1].process.pid, signal.SIGKILL if word == 'killed' else signal.SIGTERM)
    code, line = ranks[0].end()  # within a minute
    path, done = iterations(tmp_path)
    if word == 'killed':
        assert code == 1
        assert line.startswith('error: another process of this run has ended or cannot be reached')
    else:
        assert code == ranks[1].end()[0] == 143
        assert f'after iteration {done}: checkpoint {path} is written' in line
    assert done >= 2


def test_a_disk_that_fills_up(data, tmp_path):
    """Room for one checkpoint, and not for the second."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    if os.geteuid() or subprocess.call(['mount', '-t', 'tmpfs', '-o', 'size=200m', 'tmpfs', disk]):
        pytest.skip('needs the right to mount a file system')
    try:
        keep = 'default_hooks.checkpoint.max_keep_ckpts=-1'
        training = Training(data, disk / 'run', keep)
        code, line = training.end()
        path, done = iterations(disk / 'run')
        assert code == 1
        assert line == (
            f'error: {disk}/run/iter_{done + 2}.pth cannot be written: No space left on device; '
            'free some space, or choose another folder, and continue with --resume (last '
            f'complete checkpoint: {path})'
        )
    finally:
        subprocess.call(['umount', '-l', disk])


def test_a_work_dir_that_cannot_be_written_any_more(data, tmp_path):
    work_dir = tmp_path / 'run'
    training = Training(data, work_dir)
    training.wait_for('Saving checkpoint at 4')
    if subprocess.call(['chattr', '+i', work_dir]):
        training.process.kill()
        pytest.skip('needs the right to make a folder immutable')
    try:
        code, line = training.end()
        assert code == 1
        assert line.startswith('error: ')
        assert 'Operation not permitted' in line
        assert iterations(work_dir)[1] >= 2
    finally:
        subprocess.call(['chattr', '-i', work_dir])


def test_crash_test(data, tmp_path):
    config, name, *_ = TASKS['mmseg']
    result = subprocess.run(
        [str(word) for word in (
            sys.executable, ROOT / 'tools/misc/crash_test.py', '--kills', 3, ROOT / config,
            '--data-root', data / name, '--cfg-options', *shrink('mmseg'), 'train_cfg.max_iters=8',
        )],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert '3 of 3 ended with the same bits' in result.stdout
    assert not list(Path(tmp_path).iterdir())
