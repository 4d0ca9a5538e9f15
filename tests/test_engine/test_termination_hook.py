"""SIGTERM ends a training with a checkpoint."""

import os
import signal

import pytest
from mmengine.hooks import Hook

from mmcnnmod.errors import UserError

from ..utils.mmengine_run import assert_same
from ..utils.training import StopAt, last, make_runner, result, resumed, warnings_of


def terminate():
    """Send SIGTERM to this thread; without a handler it would end the process with the tests."""
    assert callable(signal.getsignal(signal.SIGTERM))
    signal.raise_signal(signal.SIGTERM)


class SignalAt(StopAt):
    priority = 'NORMAL'

    def after_train_iter(self, runner, *_, **__):
        if runner.iter + 1 == self.iteration:
            terminate()


class SignalInValidation(StopAt):
    priority = 'NORMAL'

    def after_val_iter(self, runner, batch_idx, *_, **__):
        if runner.iter == self.iteration and batch_idx == 1:
            terminate()

    def after_train_iter(self, *_, **__):
        pass


@pytest.fixture(autouse=True)
def signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize('options', [
    dict(by_epoch=False), dict(), dict(ema=True), dict(by_epoch=False, ema=True)
])  # fmt: skip
@pytest.mark.parametrize('when', [SignalAt, SignalInValidation])
def test_sigterm(tmp_path, options, when):
    """A checkpoint is written at once, in the middle of an epoch or a validation."""
    stop = dict(type='TerminationHook')
    # So rarely that there would be no regular checkpoint.
    options = dict(checkpoint=dict(interval=100), **options)
    make_runner(tmp_path / 'whole', **options).train()
    iteration = 6 if when is SignalAt else 8
    runner = make_runner(tmp_path / 'cut', hooks=[stop, when(iteration)], **options)
    lines = warnings_of(runner)
    with pytest.raises(SystemExit) as end:
        runner.train()
    assert end.value.code == 143
    found = last(tmp_path / 'cut')
    assert f'after iteration {iteration}: checkpoint {found} is written' in lines[-1]
    resumed(tmp_path / 'cut', hooks=[stop], **options).train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))
    regular = 'iter_10.pth' if options.get('by_epoch') is False else 'epoch_3.pth'
    assert last(tmp_path / 'cut').name == regular


def test_a_checkpoint_in_the_middle_of_an_epoch_goes_when_the_next_is_there(tmp_path):
    options = dict(checkpoint=dict(max_keep_ckpts=1))
    names = []
    for iteration in (5, 7, None):  # the second of three epochs has 5 to 8
        hooks = [dict(type='TerminationHook'), *([SignalAt(iteration)] if iteration else [])]
        resume = str(last(tmp_path)) if names else None
        runner = make_runner(tmp_path, hooks=hooks, resume=resume, **options)
        if iteration:
            with pytest.raises(SystemExit):
                runner.train()
        else:
            runner.train()
        names.append(sorted(path.name for path in tmp_path.glob('*.pth')))
    assert names == [['epoch_1.pth', 'iter_5.pth'], ['epoch_1.pth', 'iter_7.pth'], ['epoch_3.pth']]


@pytest.mark.parametrize('by_epoch', [True, False])
def test_sigterm_in_a_validation_after_resuming(tmp_path, by_epoch):
    """It is the first step of a resumed training."""

    class Kill(Hook):
        def before_val(self, runner):
            raise KeyboardInterrupt

    options = dict(by_epoch=by_epoch)
    stop = dict(type='TerminationHook')
    make_runner(tmp_path / 'whole', **options).train()
    with pytest.raises(KeyboardInterrupt):
        make_runner(tmp_path / 'cut', hooks=[Kill()], **options).train()
    runner = resumed(tmp_path / 'cut', hooks=[stop, SignalInValidation(4)],
        **options,
    )  # fmt: skip
    with pytest.raises(SystemExit) as end:
        runner.train()
    assert end.value.code == 143
    resumed(tmp_path / 'cut', **options).train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))


def test_what_a_training_forks_ends_by_sigterm(tmp_path):
    """For example, mmdet scores detections in a pool of processes."""

    class Fork(Hook):
        def after_train_iter(self, *_, **__):
            read, write = os.pipe()
            child = os.fork()
            if not child:
                try:
                    os.write(write, b'.')
                    signal.pause()
                finally:
                    os._exit(0)  # whatever happens, it must not go on with the tests
            os.read(read, 1)  # wait until the child runs
            os.kill(child, signal.SIGTERM)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            os.close(read)
            os.close(write)

    codes = []
    make_runner(tmp_path, by_epoch=False, hooks=[dict(type='TerminationHook'), Fork()]).train()
    assert codes == [-signal.SIGTERM] * 10


def test_sigterm_needs_the_hook(tmp_path):
    hooks = [dict(type='TerminationHook')]
    with pytest.raises(UserError, match=r'needs .*SafeCheckpointHook'):
        make_runner(tmp_path, hooks=hooks, checkpoint=dict(type='CheckpointHook')).train()
