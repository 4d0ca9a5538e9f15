"""What a config says about its data."""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.config import Config

from mmcnnmod.config_types import type_name
from mmcnnmod.swap.backbone_refs import iter_dicts


def transforms(cfg: Config) -> dict[str, dict]:
    """The transforms of the training data by their names, however deep they stand."""
    nodes = [node for _, node, _ in iter_dicts(cfg.get('train_dataloader') or {}, '')]
    return {type_name(node): node for node in nodes if 'type' in node}


def numbers(cfg: Config, *keys: str) -> Iterator[int]:
    """All numbers that stand under one of the keys anywhere in the model."""
    for _, node, _ in iter_dicts(cfg.model, ''):
        for key in keys:
            values = node.get(key)
            for value in values if isinstance(values, (list, tuple)) else [values]:
                if isinstance(value, int) and value > 0:
                    yield value


def classes(cfg: Config, *keys: str) -> int:
    """How many classes every head knows."""
    return min(numbers(cfg, *(keys or ['num_classes'])), default=1)
