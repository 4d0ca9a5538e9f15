"""Dummy weights: nothing is downloaded, but loading is tried.

The name of a dummy checkpoint holds the dense backbone's config. Loading it builds that backbone
and returns its random weights, so that a warm start from it runs with all its checks.
"""

from __future__ import annotations

import json

import torch
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader

from mmcnnmod.swap.backbone_refs import iter_dicts

SCHEME = 'dummy://'
WEIGHTS = ('init_cfg', 'pretrained')

# The names of all dummy checkpoints that were loaded in this process.
loaded: list[str] = []


def checkpoint_name(backbone: dict | None, prefix: str | None = None) -> str:
    """The name of a dummy checkpoint.

    Args:
        backbone (dict, optional): Config of the dense backbone that it holds. None: it holds
            nothing that a model has.
        prefix (str, optional): What stands before the names in it.
    """
    if backbone is not None:
        backbone = {key: value for key, value in backbone.items() if key not in WEIGHTS}
    return SCHEME + json.dumps([backbone, prefix])


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_dummy(name: str, map_location: str | None = None) -> dict:
    """Load a dummy checkpoint."""
    loaded.append(name)
    backbone, prefix = json.loads(name.removeprefix(SCHEME))
    if backbone is None:
        return {'dummy': torch.zeros(1)}
    prefix = f'{prefix.rstrip(".")}.' if prefix else ''
    weights = MODELS.build(backbone).state_dict()
    return {prefix + name: tensor for name, tensor in weights.items()}


def backbone_weights(model: dict) -> set[str]:
    """The names of all dummy checkpoints of backbones in a model's config."""
    values = [value for _, node, _ in iter_dicts(model, '') for value in node.values()]
    names = {value for value in values if isinstance(value, str) and value.startswith(SCHEME)}
    return {name for name in names if json.loads(name.removeprefix(SCHEME))[0] is not None}


def refuse_downloads() -> None:
    """Let the loading of every other checkpoint fail."""

    def refuse(name: str, map_location: str | None = None) -> dict:
        raise RuntimeError(f'a sweep downloads nothing, not {name} either')

    prefixes = [prefix for prefix in CheckpointLoader._schemes if prefix != SCHEME]
    CheckpointLoader.register_scheme(prefixes, loader=refuse, force=True)
