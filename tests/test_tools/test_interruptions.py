"""Training that is stopped, or can no longer write its work dir, can be resumed."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mmcnnmod.checkpoints import read_checkpoint

from ..utils.tasks import ROOT, TASKS, arguments, shrink, tail
from ..utils.warm_python import quiet_environment

pytestmark = pytest.mark.slow
SECONDS = 120  # for each step; a busy machine needs half of it to start a program
LONG = ('train_cfg.max_iters=100000', 'train_cfg.val_interval=100000')


class Training:
    """tools/train.py, which trains the small segmentor until it is stopped."""

    def __init__(self, data, work_dir, *cfg_options, options=(), **env):
        work_dir.mkdir(exist_ok=True)
        self.log = work_dir / f'log-{env.get("RANK", 0)}.txt'
        command = [
            sys.executable, str(ROOT / 'tools/train.py'),
            *arguments('mmseg', data, '--work-dir', work_dir, *options),
            '--cfg-options', *shrink('mmseg'), *LONG, *cfg_options,
        ]  # fmt: skip
        with self.log.open('w') as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env=quiet_environment(**env),
                start_new_session=True,
            )  # fmt: skip

    def wait_for(self, text):
        end = time.monotonic() + SECONDS
        while text not in self.log.read_text() and self.process.poll() is None:
            assert time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def wait(self):
        """Wait for the end; returns the exit code and the last line."""
        code = self.process.wait(SECONDS)
        return code, self.log.read_text().strip().splitlines()[-1]


def read_last_checkpoint(work_dir):
    """The path and the iteration of the last checkpoint."""
    path = (work_dir / 'last_checkpoint').read_text()
    return path, read_checkpoint(path)['meta']['iter']


@pytest.mark.parametrize('workers', [0, 2])
def test_sigterm_writes_a_checkpoint(data, tmp_path, workers):
    never = 'default_hooks.checkpoint.interval=100000'
    training = Training(data, tmp_path, never, f'train_dataloader.num_workers={workers}')
    training.wait_for('Iter(train)')
    os.killpg(training.process.pid, signal.SIGTERM)
    code, line = training.wait()
    path, done = read_last_checkpoint(tmp_path)
    assert code == 143
    assert line.endswith(
        f'stopped by SIGTERM after iteration {done}: checkpoint {path} is written, continue '
        'with --resume'
    )
    training = Training(data, tmp_path, f'train_cfg.max_iters={done + 1}', options=['--resume'])
    assert training.wait()[0] == 0
    assert read_last_checkpoint(tmp_path)[1] == done + 1


@pytest.mark.parametrize('stop', [signal.SIGKILL, signal.SIGTERM])
def test_one_of_two_processes_ends(data, tmp_path, stop):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    ranks = [
        Training(
            data, tmp_path, 'env_cfg.dist_cfg.backend=gloo', options=['--launcher', 'pytorch'],
            WORLD_SIZE='2', RANK=rank, LOCAL_RANK=rank, MASTER_ADDR='127.0.0.1', MASTER_PORT=port,
        )
        for rank in '01'
    ]  # fmt: skip
    ranks[0].wait_for('Saving checkpoint at 4')
    os.killpg(ranks[1].process.pid, stop)
    code, line = ranks[0].wait()
    path, done = read_last_checkpoint(tmp_path)
    if stop == signal.SIGKILL:
        assert code == 1
        assert line.startswith('error: another process of this run has ended or cannot be reached')
    else:
        assert code == ranks[1].wait()[0] == 143
        assert f'after iteration {done}: checkpoint {path} is written' in line
    assert done >= 2


def test_full_disk(data, tmp_path):
    """The disk has space for one checkpoint."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    if os.geteuid() or subprocess.call(['mount', '-t', 'tmpfs', '-o', 'size=200m', 'tmpfs', disk]):
        pytest.skip('needs the right to mount a file system')
    try:
        keep = 'default_hooks.checkpoint.max_keep_ckpts=-1'
        training = Training(data, disk / 'run', keep)
        code, line = training.wait()
        path, done = read_last_checkpoint(disk / 'run')
        assert code == 1
        assert line == (
            f'error: {disk}/run/iter_{done + 2}.pth cannot be written: No space left on device; '
            'free some space, or choose another folder, and continue with --resume (last '
            f'complete checkpoint: {path})'
        )
    finally:
        subprocess.call(['umount', '-l', disk])


def test_work_dir_that_becomes_immutable(data, tmp_path):
    work_dir = tmp_path / 'run'
    training = Training(data, work_dir)
    training.wait_for('Saving checkpoint at 4')
    if subprocess.call(['chattr', '+i', work_dir]):
        training.process.kill()
        pytest.skip('needs the right to make a folder immutable')
    try:
        code, line = training.wait()
        assert code == 1
        assert line.startswith('error: ')
        assert 'Operation not permitted' in line
        assert read_last_checkpoint(work_dir)[1] >= 2
    finally:
        subprocess.call(['chattr', '-i', work_dir])


def test_crash_test(data, run_tool, tmp_path):
    task = TASKS['mmseg']
    result = run_tool(
        sys.executable, ROOT / 'tools/misc/crash_test.py', '--kills', 3, ROOT / task.config,
        '--data-root', data / task.data, '--cfg-options', *shrink('mmseg'), 'train_cfg.max_iters=8',
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert '3 of 3 ended with the same bits' in result.stdout
    assert not list(tmp_path.iterdir())
