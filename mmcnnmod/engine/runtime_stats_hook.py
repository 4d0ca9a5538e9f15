"""How long a training took and how much memory, written into its work dir."""

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
    """Writes ``runtime_stats.json`` into the work dir when training is done.

    ``train_seconds`` is the time of training with its evaluations. Checkpoints store it, so a
    resumed training counts on. ``peak_memory_mb`` is torch's peak on the GPU, or the peak of the
    whole process without one; after a resumption it is that of the last part.
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
        """Take over the time of a resumed training, not that of weights to start from."""
        if runner._resume:
            self.earlier = checkpoint['meta'].get(SECONDS, 0.0)

    def after_train(self, runner: Runner) -> None:
        """Write the file."""
        if is_main_process():
            stats = {SECONDS: round(self.seconds(), 2), 'peak_memory_mb': round(peak_memory())}
            Path(runner.work_dir, STATS_FILE).write_text(json.dumps(stats) + '\n')


def peak_memory() -> float:
    """In MB, see :class:`RuntimeStatsHook`."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
