"""A config as it is tried: swapped or dense, with small inputs and without downloads."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mmengine.config import Config

from mmcnnmod import swap_backbone
from mmcnnmod.cli.config import map_tree, parse_config
from mmcnnmod.swap.backbone_refs import find_backbones

from . import made_up
from .checkpoints import backbone_weights
from .shrink import shrink

# What changes numbers only, and not which operations run on which shapes.
NUMBERS = ('init_cfg', 'pretrained', 'mean', 'std')


@dataclass(frozen=True)
class Subject:
    """What is tried.

    Attributes:
        cfg (Config): The config with its model shrunk.
        weights (set[str]): The made-up checkpoints from which its backbones have to start.
        changes (tuple[str, ...]): What swapping changed.
        needs (dict): What the data must hold, see :mod:`.made_up`.
        hooks (tuple[dict, ...]): The hooks that swapping added.
        trains (bool): Whether the config has a training loop. Some trackers have none.
        tests (bool): Whether it has a test loop. Self-supervised training has none.
    """

    cfg: Config
    weights: set[str]
    changes: tuple[str, ...]
    needs: dict
    hooks: tuple[dict, ...]
    trains: bool
    tests: bool

    def digest(self) -> str:
        """Equal for two configs that do the same with data of the same kind."""

        def strip(node):
            if isinstance(node, dict):
                return {key: value for key, value in node.items() if key not in NUMBERS}
            return node

        content = [map_tree(self.cfg.model, strip), self.needs, self.trains, self.tests]
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def config_folder(toolbox: str) -> Path:
    """Where an installed toolbox keeps its configs."""
    return Path(import_module(toolbox).__file__).parent / '.mim' / 'configs'


def read(toolbox: str, name: str) -> Config:
    """Read a config of a toolbox as tools/train.py does, with names for classes."""
    return parse_config(config_folder(toolbox) / name)


def dense_backbones(cfg: Config) -> dict[str, dict]:
    """The nodes that :func:`mmcnnmod.swap_backbone` would swap, by their paths."""
    refs = [ref for ref in find_backbones(cfg) if ref.new and not ref.is_teacher]
    return {ref.path: ref.node.to_dict() for ref in refs}


def prepare(cfg: Config, swapped: bool, factor: int = 1) -> Subject:
    """Swap the backbones, or leave them as they came; then shrink.

    Args:
        cfg (Config): Changed in place.
        swapped (bool): Whether to swap.
        factor (int): See :func:`sweep.shrink.shrink`. Defaults to 1.
    """
    dense = dense_backbones(cfg)
    unswapped = deepcopy(cfg)
    shrink(unswapped, dense, factor)
    changes: list[str] = []
    before = list(cfg.get('custom_hooks') or [])
    if swapped:
        swap_backbone(cfg, log=changes.append)
    edge = shrink(cfg, dense, factor)
    cold = any(line.startswith('warning: ') for line in changes)
    return Subject(
        cfg=cfg,
        weights=set() if cold else backbone_weights(unswapped.model),
        changes=tuple(changes),
        needs=made_up.needs(cfg, edge),
        hooks=tuple(hook for hook in cfg.get('custom_hooks') or [] if hook not in before),
        trains=bool(cfg.get('train_cfg')),
        tests='test_cfg' in cfg and bool(cfg.get('test_dataloader')),
    )
