"""The steps that training and testing have in common."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..config_types import type_name
from ..datasets import name_unreadable_files
from ..errors import UserError
from .config import revert_sync_bn
from .data import check_labels
from .errors import building_from
from .resuming import last_checkpoint

# What the system says of a disk that is full, or has turned read-only.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def restart_on_cpu(args: argparse.Namespace) -> None:
    """Start the program anew without GPUs if ``--device cpu`` asks for it.

    mmengine chooses its device when it is imported, so it is too late to do so afterwards.
    """
    if args.device == 'cpu' and torch.cuda.is_available():
        os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
        os.execv(sys.executable, [sys.executable, *sys.argv])


def build_runner(cfg: Config, config: str, *loops: str) -> Runner:
    """Build the runner and its loops with their data sets; errors in the config become one line.

    Args:
        cfg (Config): The config, with all options applied.
        config (str): How errors call it.
        *loops (str): Which loops to build: 'train_loop', 'val_loop', 'test_loop'.

    Returns:
        Runner: Ready to train or test.
    """
    if cfg.default_scope == 'mmdet':
        from mmdet.utils import setup_cache_size_limit_of_dynamo

        setup_cache_size_limit_of_dynamo()
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        init_cpu_process_group(cfg)
    sync_bn = revert_sync_bn(cfg)
    with building_from(f'config {config}', cfg):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        check_loading(runner)
        for loop in loops:
            getattr(runner, loop)
    if sync_bn:
        runner.logger.warning(sync_bn)
    return runner


def check_loading(runner: Runner) -> None:
    """Let the data sets that a runner builds name the files that they cannot read.

    In time: a training loop starts its loading processes, with copies of the data set, at once.
    """
    build = runner.build_dataloader

    def build_checked(*args, **kwargs):
        loader = build(*args, **kwargs)
        check_labels(loader.dataset, runner.model)
        name_unreadable_files(loader.dataset, runner.model)
        return loader

    runner.build_dataloader = build_checked


@contextmanager
def run_in(work_dir: str, runner: Runner) -> Iterator[None]:
    """End a run in one line when its work dir cannot be written any more, be it a line of the log.

    Args:
        work_dir (str): Of the run.
        runner (Runner): Its log stops the run from now on where Python's would print a traceback
            for each line and go on.
    """
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = stop_on_os_error
    try:
        yield
    except OSError as problem:
        if problem.errno not in UNWRITABLE or can_write(work_dir):
            raise
        last = last_checkpoint(work_dir)
        raise UserError(
            f'work dir {work_dir} cannot be written any more ({problem.strerror}); make room there '
            f'and go on with --resume (last whole checkpoint: {last or "none yet"})'
        ) from problem


def can_write(folder: str) -> bool:
    """Whether there is room in a folder for a few lines, and the right to write them."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
    except OSError:
        return False
    return True


def stop_on_os_error(record: logging.LogRecord) -> None:
    """Raise what the system said when a line of a log was written."""
    if isinstance(sys.exc_info()[1], OSError):
        raise


def init_cpu_process_group(cfg: Config) -> None:
    """Set up several processes without GPUs, where mmengine would choose a GPU for each.

    It keeps a process group that is there, and a wrapper that is told to use no device.
    """
    torch.distributed.init_process_group(cfg.env_cfg.dist_cfg.backend)
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}
    if type_name(cfg.get('strategy') or {}) == 'DDPStrategy':  # FlexibleRunner's
        cfg.strategy.setdefault('model_wrapper', cfg.model_wrapper_cfg)


def destroy_cpu_process_group() -> None:
    """Leave the group together: gloo aborts a process whose peer has already gone."""
    if torch.distributed.is_initialized() and not torch.cuda.is_available():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
