"""A checkpoint when the machine is taken away."""

from __future__ import annotations

import os
import signal
import sys
import threading

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..errors import UserError
from .safe_checkpoint_hook import SafeCheckpointHook

EXIT_CODE = 128 + signal.SIGTERM


def end_by_signal() -> None:
    """Let a process that a training forks end by SIGTERM, as a pool of workers expects it."""
    handler = signal.getsignal(signal.SIGTERM)
    if isinstance(getattr(handler, '__self__', None), TerminationHook):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=end_by_signal)


@HOOKS.register_module()
class TerminationHook(Hook):
    """Ends a training that gets SIGTERM, as SLURM and Kubernetes send it, with a checkpoint.

    The iteration that runs is finished, a checkpoint is written, and the program ends with exit
    code 143. Of several processes, it is enough if one gets the signal. A single process does not
    finish a validation; it is done when the training is resumed. Several do, for their numbers of
    batches may differ. They compare notes after each iteration, which costs one ``all_reduce`` of
    a number.

    It needs ``SafeCheckpointHook``. In a config: ``custom_hooks = [dict(type='TerminationHook')]``.
    The tools of this project add it.

    Raises:
        UserError: If there is no SafeCheckpointHook.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.received = False
        self.handler = None  # what took the signal before
        self.checkpoints: SafeCheckpointHook | None = None

    def before_train(self, runner: Runner) -> None:
        """Wait for the signal."""
        if self.checkpoints is not None:
            return
        found = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        if not found:
            raise UserError(
                'TerminationHook needs default_hooks.checkpoint.type=SafeCheckpointHook'
            )
        self.checkpoints = found[0]
        if threading.current_thread() is threading.main_thread():  # nobody else may
            self.handler = signal.signal(signal.SIGTERM, self.note)

    def before_val(self, runner: Runner) -> None:
        """Wait for the signal: a validation that is made up for comes first of all."""
        if any(isinstance(hook, SafeCheckpointHook) and hook.progress for hook in runner.hooks):
            self.before_train(runner)

    def after_train(self, runner: Runner) -> None:
        """Leave the signal to what comes after."""
        if self.handler is not None:
            signal.signal(signal.SIGTERM, self.handler)

    def note(self, *_) -> None:
        """Take the signal."""
        self.received = True

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        """Stop, if any process got the signal."""
        if self.any_received():
            self.stop(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, *_, **__) -> None:
        """Stop in the middle of a validation, of which nothing is kept."""
        if self.received and get_world_size() == 1:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # it has put the average into the model
                    hook.after_val_epoch(runner)
            runner.message_hub.update_info('loop_stage', 'train')
            self.stop(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Stop after a validation."""
        if self.any_received():
            self.stop(runner, runner.iter)

    def any_received(self) -> bool:
        """Whether any process got the signal; all of them ask at the same time."""
        received = torch.tensor(int(self.received))
        all_reduce(received, op='max')
        return bool(received)

    def stop(self, runner: Runner, done: int) -> None:
        """Write a checkpoint and end the program."""
        path = self.checkpoints.save_now(runner, done)
        barrier()  # a launcher ends the first process, which writes, when another one is gone
        runner.logger.warning(
            f'stopped by SIGTERM after iteration {done}: checkpoint {path} is written, go on with '
            '--resume'
        )
        sys.exit(EXIT_CODE)
