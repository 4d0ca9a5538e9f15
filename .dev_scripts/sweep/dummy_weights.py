"""Dummy checkpoints, so that loading is tested without downloads.

The name of a dummy checkpoint contains the config of a dense backbone. Loading the checkpoint
builds that backbone and returns its random weights, so that a warm start makes all its checks.
"""

from __future__ import annotations

import json

import torch
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader

from mmcnnmod.swap.backbone_refs import iter_dicts

SCHEME = 'dummy://'
EMPTY = SCHEME + 'empty'  # has no weights of any model
WEIGHTS = ('init_cfg', 'pretrained')

# The names of all dummy checkpoints that this process has loaded.
loaded: list[str] = []


def checkpoint_name(backbone: dict | None, prefix: str | None = None) -> str:
    """The name of a dummy checkpoint.

    Args:
        backbone (dict, optional): The config of the dense backbone. None: the empty checkpoint.
        prefix (str, optional): A prefix of the names of its tensors.
    """
    if backbone is None:
        return EMPTY
    backbone = {key: value for key, value in backbone.items() if key not in WEIGHTS}
    return SCHEME + json.dumps([backbone, prefix])


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_dummy(name: str, map_location: str | None = None) -> dict:
    """Load a dummy checkpoint."""
    loaded.append(name)
    if name == EMPTY:
        return {'dummy': torch.zeros(1)}
    backbone, prefix = json.loads(name.removeprefix(SCHEME))
    prefix = f'{prefix.rstrip(".")}.' if prefix else ''
    weights = MODELS.build(backbone).state_dict()
    return {prefix + name: tensor for name, tensor in weights.items()}


def backbone_weights(model: dict) -> set[str]:
    """The names of the dummy checkpoints in a model's config that contain a backbone."""
    values = [value for _, node, _ in iter_dicts(model, '') for value in node.values()]
    names = {value for value in values if isinstance(value, str) and value.startswith(SCHEME)}
    return names - {EMPTY}


def refuse_downloads() -> None:
    """Let loading fail for all checkpoints that are not dummies."""

    def refuse(name: str, map_location: str | None = None) -> dict:
        raise RuntimeError(f'the sweep does not download checkpoints: {name}')

    prefixes = [prefix for prefix in CheckpointLoader._schemes if prefix != SCHEME]
    CheckpointLoader.register_scheme(prefixes, loader=refuse, force=True)
