"""How long a training took and how much memory, left in its work dir."""

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

FACTS_FILE = 'run_facts.json'
SECONDS = 'train_seconds'


@HOOKS.register_module()
class RunFactsHook(Hook):
    """Writes ``run_facts.json`` into the work dir when training is done.

    In it are ``train_seconds``, training with its evaluations, also of what was done before a
    resumption (checkpoints carry it), and ``peak_memory_mb``: of torch's memory on the GPU, or of
    the whole process where there is none; a resumed run's is that of its last part.
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
        """Training so far."""
        return self.earlier + monotonic() - self.began

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Leave the time in the checkpoint."""
        checkpoint['meta'][SECONDS] = self.seconds()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over the time of what is resumed; weights to start from bring none."""
        if runner._resume:
            self.earlier = checkpoint['meta'].get(SECONDS, 0.0)

    def after_train(self, runner: Runner) -> None:
        """Write the file."""
        if is_main_process():
            facts = {SECONDS: round(self.seconds(), 2), 'peak_memory_mb': round(peak_memory())}
            Path(runner.work_dir, FACTS_FILE).write_text(json.dumps(facts) + '\n')


def peak_memory() -> float:
    """In MB, see :class:`RunFactsHook`."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
