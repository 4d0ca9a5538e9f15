"""Building and running the runner, for training and testing."""

from __future__ import annotations

import argparse
import errno
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..checkpoints import safe_loading
from ..datasets import name_unreadable_files
from ..errors import UserError
from .errors import building_from, one_line_errors
from .preflight import check_labels
from .resuming import last_checkpoint

# The errors of a full or read-only disk.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def run_safely(program: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run a program that builds a runner: on its device, with safe loading and one-line errors."""
    restart_on_cpu(args)
    with one_line_errors(args.debug, args.config), safe_loading(args.trust_checkpoint):
        program(args)
        destroy_cpu_process_group()


def restart_on_cpu(args: argparse.Namespace) -> None:
    """Restart the program without GPUs for ``--device cpu``, before mmengine chooses a device."""
    if args.device == 'cpu' and torch.cuda.is_available():
        os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
        os.execv(sys.executable, [sys.executable, *sys.argv])


def build_runner(cfg: Config, config: str, *loops: str, note: str | None = None) -> Runner:
    """Build the runner and its loops with their data sets; errors in the config become one line.

    Args:
        cfg (Config): The config, after all changes.
        config (str): Its name in errors.
        *loops (str): Which loops to build: 'train_loop', 'val_loop', 'test_loop'.
        note (str, optional): A warning for the runner's log. Defaults to None.

    Returns:
        Runner: Ready to train or test.
    """
    if cfg.default_scope == 'mmdet':
        from mmdet.utils import setup_cache_size_limit_of_dynamo

        setup_cache_size_limit_of_dynamo()
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        # mmengine would assign a GPU to each process.
        torch.distributed.init_process_group(cfg.env_cfg.dist_cfg.backend)
    with building_from(f'config {config}', cfg):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        build_dataloader = runner.build_dataloader

        def build_checked(*args, **kwargs):
            loader = build_dataloader(*args, **kwargs)
            check_labels(loader.dataset, runner.model)
            name_unreadable_files(loader.dataset, runner.model)
            return loader

        # Before the loops are built: the training loop starts its data loading processes, which get
        # copies of the data set.
        runner.build_dataloader = build_checked
        for loop in loops:
            getattr(runner, loop)
    if note:
        runner.logger.warning(note)
    return runner


@contextmanager
def run_in(work_dir: str, runner: Runner) -> Iterator[None]:
    """Raise one :class:`UserError` if the work dir, and with it the log, can no longer be written.

    Args:
        work_dir (str): The work dir of the run.
        runner (Runner): Its log raises errors from now on. By default, Python's logging prints a
            traceback for each line and continues.
    """
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = raise_os_error
    try:
        yield
    except OSError as problem:
        if problem.errno not in UNWRITABLE or can_write(work_dir):
            raise
        last = last_checkpoint(work_dir)
        raise UserError(
            f'work dir {work_dir} can no longer be written ({problem.strerror}); free some space '
            f'and continue with --resume (last complete checkpoint: {last or "none yet"})'
        ) from problem


def can_write(folder: str) -> bool:
    """Whether a file of a few lines can be written in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
    except OSError:
        return False
    return True


def raise_os_error(record: logging.LogRecord) -> None:
    """Raise the system's error if a line of a log cannot be written."""
    if isinstance(sys.exc_info()[1], OSError):
        raise


def destroy_cpu_process_group() -> None:
    """Leave the process group of a training or test on CPUs; call it without a runner in use.

    All processes leave together: gloo aborts a process whose peer has already left.
    """
    if torch.distributed.is_initialized() and not torch.cuda.is_available():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        # A wrapped model refers to the group, in a reference cycle with its runner. Until it is
        # collected, gloo's threads run; if they still run when Python exits, the process may abort.
        gc.collect()
