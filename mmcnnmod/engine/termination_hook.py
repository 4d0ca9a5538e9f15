"""A hook that writes a checkpoint and ends the training on SIGTERM."""

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


def restore_default_action() -> None:
    """In a forked process, restore the default action of SIGTERM, which worker pools need."""
    handler = signal.getsignal(signal.SIGTERM)
    if isinstance(getattr(handler, '__self__', None), TerminationHook):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=restore_default_action)


@HOOKS.register_module()
class TerminationHook(Hook):
    """Writes a checkpoint and ends the training on SIGTERM, which SLURM and Kubernetes send.

    The training finishes the current iteration, writes a checkpoint and exits with code 143. A
    single process also stops in the middle of a validation, which the resumed training repeats.
    Several processes finish a validation, because their numbers of batches may differ. It is enough
    that one process gets the signal: after each iteration they exchange whether one did, with an
    ``all_reduce`` of one number.

    The hook needs ``SafeCheckpointHook``. In a config:
    ``custom_hooks = [dict(type='TerminationHook')]``. The tools of this project add it.

    Raises:
        UserError: If there is no SafeCheckpointHook.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.received = False
        self.previous_handler = None
        self.checkpoints: SafeCheckpointHook | None = None

    def before_train(self, runner: Runner) -> None:
        """Install the handler of the signal."""
        if self.checkpoints is not None:
            return
        found = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        if not found:
            raise UserError(
                'TerminationHook needs default_hooks.checkpoint.type=SafeCheckpointHook'
            )
        self.checkpoints = found[0]
        if threading.current_thread() is threading.main_thread():  # Python allows it only there
            self.previous_handler = signal.signal(signal.SIGTERM, self.on_signal)

    def before_val(self, runner: Runner) -> None:
        """Install the handler, because a resumed training may begin with a validation."""
        if any(isinstance(hook, SafeCheckpointHook) and hook.progress for hook in runner.hooks):
            self.before_train(runner)

    def after_train(self, runner: Runner) -> None:
        """Restore the previous handler."""
        if self.previous_handler is not None:
            signal.signal(signal.SIGTERM, self.previous_handler)

    def on_signal(self, *_) -> None:
        """Remember that the signal was received."""
        self.received = True

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        """Stop if any process got the signal."""
        if self.any_received():
            self.stop(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, *_, **__) -> None:
        """Stop in the middle of a validation, whose results are discarded."""
        if self.received and get_world_size() == 1:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # it swaps the trained weights back
                    hook.after_val_epoch(runner)
            runner.message_hub.update_info('loop_stage', 'train')
            self.stop(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Stop after a validation if any process got the signal."""
        if self.any_received():
            self.stop(runner, runner.iter)

    def any_received(self) -> bool:
        """Whether any process got the signal. Every process must call this."""
        received = torch.tensor(int(self.received))
        all_reduce(received, op='max')
        return bool(received)

    def stop(self, runner: Runner, done: int) -> None:
        """Write a checkpoint and end the program."""
        path = self.checkpoints.save_now(runner, done)
        barrier()  # when one process ends, launchers kill the others, which may still be writing
        runner.logger.warning(
            f'stopped by SIGTERM after iteration {done}: checkpoint {path} is written, continue '
            'with --resume'
        )
        sys.exit(EXIT_CODE)
