"""Building a model without a runner."""

from __future__ import annotations

import argparse
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from ..checkpoints import read_checkpoint, weights_of
from . import preflight
from .config import require_keys, revert_sync_bn
from .errors import building_from


def build_model(cfg: Config, config: str) -> nn.Module:
    """Build the model of a config on the CPU, without calling ``init_weights``.

    Args:
        cfg (Config): Must be the config of the current default scope. It is not changed; SyncBN is
            built as BN where SyncBN does not work.
        config (str): Its name in errors.

    Returns:
        nn.Module: In evaluation mode.
    """
    require_keys(cfg, config, 'this program', 'model')
    keys = ('model', 'data_preprocessor', 'launcher')
    cfg = Config({key: deepcopy(cfg.get(key)) for key in keys})
    revert_sync_bn(cfg)
    if cfg.data_preprocessor:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with building_from(f'config {config}', cfg):
        return MODELS.build(cfg.model).eval()


def load_trained_model(cfg: Config, args: argparse.Namespace) -> nn.Module:
    """Build the model of a config with the weights of a checkpoint.

    Args:
        cfg (Config): See :func:`build_model`.
        args (argparse.Namespace): With ``config``, ``checkpoint`` and ``device``.

    Returns:
        nn.Module: On its device, in evaluation mode, with the ``dataset_meta`` of the checkpoint.

    Raises:
        UserError: If the checkpoint cannot be read or does not fit.
    """
    content = read_checkpoint(args.checkpoint)
    model = build_model(cfg, args.config)
    preflight.check_weights(model, content, args.checkpoint, complete=True)
    model.load_state_dict(weights_of(content, args.checkpoint), strict=False)
    model.dataset_meta = (content.get('meta') or {}).get('dataset_meta') or {}
    gpu = args.device != 'cpu' and torch.cuda.is_available()
    return model.to('cuda' if gpu else 'cpu')
