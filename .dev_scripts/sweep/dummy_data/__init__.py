"""Dummy data: noise for images, with the annotations that a config's pipeline would load.

There is a module for each toolbox with two functions: ``needs`` reads from a config what its data
must hold, and ``batch`` makes a batch of such data.
"""

from __future__ import annotations

from importlib import import_module

import torch
from mmengine.config import Config
from torch import nn

from mmcnnmod.config_types import type_name
from mmcnnmod.swap.backbone_refs import iter_dicts

BATCH = 2
GALLERY = 4


def needs(cfg: Config, edge: int) -> dict:
    """What the data of a config must hold, as JSON."""
    toolbox = cfg.default_scope
    own = import_module(f'{__name__}.{toolbox}').needs(cfg)
    return {'toolbox': toolbox, 'edge': edge, **own}


def batch(needs: dict, training: bool) -> dict:
    """Two samples as a data loader gives them, or one where a model takes no more."""
    return import_module(f'{__name__}.{needs["toolbox"]}').batch(needs, training)


def prepare_model(model: nn.Module, needs: dict) -> None:
    """Give a retriever features to compare with, in place of a gallery of images."""
    if needs['toolbox'] == 'mmpretrain' and hasattr(model, 'prototype'):
        model.prototype = torch.rand(GALLERY, model.head.in_channels)


def transforms(cfg: Config) -> dict[str, dict]:
    """The transforms of the training data by their names, however deep they are nested."""
    nodes = [node for _, node, _ in iter_dicts(cfg.get('train_dataloader') or {}, '')]
    return {type_name(node): node for node in nodes if 'type' in node}


def num_classes(cfg: Config, *keys: str) -> int:
    """The smallest positive number under one of the keys anywhere in the model, or 1."""
    values = [node.get(key) for _, node, _ in iter_dicts(cfg.model, '') for key in keys]
    lists = [value if isinstance(value, (list, tuple)) else [value] for value in values]
    return min((n for values in lists for n in values if isinstance(n, int) and n > 0), default=1)
