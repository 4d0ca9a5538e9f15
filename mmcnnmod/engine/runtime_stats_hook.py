"""A hook that writes the time and memory of a training to its work dir."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from time import monotonic

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..deprecation import renamed_from

STATS_FILE = 'runtime_stats.json'
SECONDS = 'train_seconds'


@HOOKS.register_module()
@renamed_from(HOOKS, 'RunFactsHook')
class RuntimeStatsHook(Hook):
    """Writes ``runtime_stats.json`` to the work dir at the end of the training.

    ``train_seconds`` is the time of training and validation. Checkpoints contain it, so a resumed
    training includes the time before. ``peak_memory_mb`` is torch's peak on the GPU, or the peak of
    the process without a GPU. It covers only the time since the last resumption.
    """

    def __init__(self) -> None:
        self.earlier = 0.0
        self.began = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self.began = monotonic()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def seconds(self) -> float:
        """Seconds of training so far."""
        return self.earlier + monotonic() - self.began

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the time so far in the checkpoint."""
        checkpoint['meta'][SECONDS] = self.seconds()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the time before a resumption. Initial weights have no time to add."""
        if runner._resume:
            self.earlier = checkpoint['meta'].get(SECONDS, 0.0)

    def after_train(self, runner: Runner) -> None:
        """Write the file."""
        if is_main_process():
            stats = {SECONDS: round(self.seconds(), 2), 'peak_memory_mb': round(peak_memory())}
            Path(runner.work_dir, STATS_FILE).write_text(json.dumps(stats) + '\n')


def peak_memory() -> float:
    """The peak memory in MB, see :class:`RuntimeStatsHook`."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
