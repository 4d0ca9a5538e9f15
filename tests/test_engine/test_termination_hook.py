"""SIGTERM ends a training with a checkpoint."""

import os
import signal

import pytest
from mmengine.hooks import Hook

from mmcnnmod.errors import UserError

from ..utils.training import (
    InterruptValidation,
    assert_same_result,
    collect_warnings,
    last_checkpoint,
    make_resumed_runner,
    make_runner,
    train_and_interrupt,
)

TERMINATION = dict(type='TerminationHook')


class SignalAt(Hook):
    """Sends SIGTERM to this process after an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, *_, **__):
        if runner.iter + 1 == self.iteration:
            send_sigterm()


class SignalInValidation(Hook):
    """Sends SIGTERM to this process in the validation after an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_val_iter(self, runner, batch_idx, *_, **__):
        if runner.iter == self.iteration and batch_idx == 1:
            send_sigterm()


def send_sigterm():
    # Without a handler, it would end the process that runs the tests.
    assert callable(signal.getsignal(signal.SIGTERM))
    signal.raise_signal(signal.SIGTERM)


def train_until_sigterm(runner):
    """Train until SIGTERM; returns the warnings."""
    lines = collect_warnings(runner)
    with pytest.raises(SystemExit) as end:
        runner.train()
    assert end.value.code == 143
    return lines


@pytest.fixture(autouse=True)
def restore_signal_handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('ema', [False, True])
@pytest.mark.parametrize('hook', [SignalAt(6), SignalInValidation(8)])
def test_sigterm_writes_a_checkpoint_at_once(tmp_path, by_epoch, ema, hook):
    """It does so in the middle of an epoch, and in the middle of a validation."""
    # No regular checkpoint is written except the last.
    options = dict(by_epoch=by_epoch, ema=ema, checkpoint=dict(interval=100))
    make_runner(tmp_path / 'full', **options).train()
    folder = tmp_path / 'resumed'
    lines = train_until_sigterm(make_runner(folder, hooks=[TERMINATION, hook], **options))
    path = last_checkpoint(folder)
    assert f'after iteration {hook.iteration}: checkpoint {path} is written' in lines[-1]
    make_resumed_runner(folder, hooks=[TERMINATION], **options).train()
    assert_same_result(tmp_path / 'full', folder)
    assert last_checkpoint(folder).name == ('epoch_3.pth' if by_epoch else 'iter_10.pth')


def test_next_checkpoint_replaces_one_in_the_middle_of_an_epoch(tmp_path):
    options = dict(checkpoint=dict(max_keep_ckpts=1))

    def names():
        return sorted(path.name for path in tmp_path.glob('*.pth'))

    # The second of three epochs has the iterations 5 to 8.
    train_until_sigterm(make_runner(tmp_path, hooks=[TERMINATION, SignalAt(5)], **options))
    assert names() == ['epoch_1.pth', 'iter_5.pth']
    train_until_sigterm(make_resumed_runner(tmp_path, hooks=[TERMINATION, SignalAt(7)], **options))
    assert names() == ['epoch_1.pth', 'iter_7.pth']
    make_resumed_runner(tmp_path, hooks=[TERMINATION], **options).train()
    assert names() == ['epoch_3.pth']


@pytest.mark.parametrize('by_epoch', [True, False])
def test_sigterm_stops_a_training_that_resumes_with_a_validation(tmp_path, by_epoch):
    make_runner(tmp_path / 'full', by_epoch=by_epoch).train()
    folder = tmp_path / 'resumed'
    train_and_interrupt(folder, InterruptValidation(), by_epoch=by_epoch)
    hooks = [TERMINATION, SignalInValidation(4)]
    train_until_sigterm(make_resumed_runner(folder, hooks=hooks, by_epoch=by_epoch))
    make_resumed_runner(folder, by_epoch=by_epoch).train()
    assert_same_result(tmp_path / 'full', folder)


def test_sigterm_ends_forked_processes(tmp_path):
    """For example, mmdet evaluates detections in a pool of processes."""

    class Fork(Hook):
        def after_train_iter(self, *_, **__):
            read, write = os.pipe()
            child = os.fork()
            if not child:
                try:
                    os.write(write, b'.')
                    signal.pause()
                finally:
                    os._exit(0)  # in any case, the child must not continue with the tests
            os.read(read, 1)  # wait until the child runs
            os.kill(child, signal.SIGTERM)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            os.close(read)
            os.close(write)

    codes = []
    make_runner(tmp_path, by_epoch=False, hooks=[TERMINATION, Fork()]).train()
    assert codes == [-signal.SIGTERM] * 10


def test_hook_needs_safe_checkpoint_hook(tmp_path):
    runner = make_runner(tmp_path, hooks=[TERMINATION], checkpoint=dict(type='CheckpointHook'))
    with pytest.raises(UserError, match=r'needs .*SafeCheckpointHook'):
        runner.train()
