"""The steps that training and testing have in common."""

from __future__ import annotations

import argparse
import os
import sys

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .errors import building_from


def hide_gpus(args: argparse.Namespace) -> None:
    """Start the program anew without GPUs if ``--device cpu`` asks for it.

    mmengine chooses its device when it is imported, so it is too late to do so afterwards.
    """
    if args.device == 'cpu' and torch.cuda.is_available():
        os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
        os.execv(sys.executable, [sys.executable, *sys.argv])


def build_runner(cfg: Config, config: str) -> Runner:
    """Build the runner; errors in the config become one line."""
    if cfg.default_scope == 'mmdet':
        from mmdet.utils import setup_cache_size_limit_of_dynamo

        setup_cache_size_limit_of_dynamo()
    with building_from(f'config {config}'):
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
