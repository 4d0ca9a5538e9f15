"""A config as the sweep runs it: swapped or dense, with small inputs and without downloads."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mmengine.config import Config

from mmcnnmod import swap_backbone
from mmcnnmod.cli.config import map_tree, parse_config, revert_sync_bn
from mmcnnmod.config_types import PRETRAINED, type_name
from mmcnnmod.swap.backbone_refs import find_backbones, iter_dicts

from . import dummy_data
from .dummy_weights import backbone_weights, checkpoint_name

# Height and width of the images: the features at stride 32 are still larger than 1x1.
EDGES = {'mmpretrain': 64, 'mmseg': 64, 'mmdet': 128}
# The classifier of mmpretrain's VGG takes this size only.
VGG_EDGE = 224
SIZES = ('size', 'scale', 'random_size_range')
# NMS looks at every proposal once for each class. With V3Det's 13204 classes that takes a quarter
# of an hour for one small image.
MANY_CLASSES, FEW_PROPOSALS = 10_000, 10
# Options that change numbers only, and not which operations run on which shapes.
NUMBERS = ('init_cfg', 'pretrained', 'mean', 'std')


@dataclass(frozen=True)
class Case:
    """A config that is ready to run.

    Attributes:
        cfg (Config): The config with its model shrunk.
        weights (set[str]): The dummy checkpoints that its backbones have to load.
        changes (tuple[str, ...]): What swapping changed.
        needs (dict): What the data must hold, see :mod:`.dummy_data`.
        hooks (tuple[dict, ...]): The hooks that swapping added.
    """

    cfg: Config
    weights: set[str]
    changes: tuple[str, ...]
    needs: dict
    hooks: tuple[dict, ...]

    @property
    def trains(self) -> bool:
        """Whether the config has a training loop. Some trackers have none."""
        return bool(self.cfg.get('train_cfg'))

    @property
    def tests(self) -> bool:
        """Whether the config has a test loop. Self-supervised training has none."""
        return 'test_cfg' in self.cfg and bool(self.cfg.get('test_dataloader'))

    def digest(self) -> str:
        """A hash, equal for two configs that do the same with data of the same kind."""

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


def read_config(toolbox: str, name: str) -> Config:
    """Read a config of a toolbox as tools/train.py does."""
    return parse_config(config_folder(toolbox) / name)


def dense_backbones(cfg: Config) -> dict[str, dict]:
    """The nodes that :func:`mmcnnmod.swap_backbone` would swap, by their paths."""
    refs = [ref for ref in find_backbones(cfg) if ref.new and not ref.is_teacher]
    return {ref.path: ref.node.to_dict() for ref in refs}


def make_case(cfg: Config, swapped: bool, factor: int = 1) -> Case:
    """Swap the backbones of a config in place, or leave them dense; then shrink it."""
    dense = dense_backbones(cfg)
    unswapped = deepcopy(cfg)
    shrink(unswapped, dense, factor)
    changes: list[str] = []
    before = list(cfg.get('custom_hooks') or [])
    if swapped:
        swap_backbone(cfg, log=changes.append)
    edge = shrink(cfg, dense, factor)
    cold = any(line.startswith('warning: ') for line in changes)
    return Case(
        cfg=cfg,
        weights=set() if cold else backbone_weights(unswapped.model),
        changes=tuple(changes),
        needs=dummy_data.needs(cfg, edge),
        hooks=tuple(hook for hook in cfg.get('custom_hooks') or [] if hook not in before),
    )


def shrink(cfg: Config, backbones: dict[str, dict], factor: int = 1) -> int:
    """Fit a config in place to small images, one CPU and no network.

    Args:
        cfg (Config): Its sizes in data preprocessors, SyncBN and checkpoints change; with more than
            10000 classes also the number of proposals in predictions.
        backbones (dict[str, dict]): Its :func:`dense_backbones`.
        factor (int): Multiplies the size of the images. Defaults to 1.

    Returns:
        int: Height and width of the images.
    """
    # As mmengine's runner does.
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    cfg.launcher = 'none'
    revert_sync_bn(cfg)
    vgg = any('VGG' in node['type'] for node in backbones.values())
    edge = VGG_EDGE if vgg else factor * EDGES[cfg.default_scope]
    for path, node, _ in iter_dicts(cfg.model, 'model'):
        if 'data_preprocessor' in path:
            node.update({key: (edge, edge) for key in SIZES if node.get(key) is not None})
        if node.get('num_classes', 0) > MANY_CLASSES and 'rpn' in (cfg.model.get('test_cfg') or {}):
            cfg.model.test_cfg.rpn.max_per_img = FEW_PROPOSALS
        replace_checkpoints(path, node, backbones)
    return edge


def replace_checkpoints(path: str, node: dict, backbones: dict[str, dict]) -> None:
    """Let a node load dummy weights: a backbone those of the dense one, other parts none."""
    if node.get('pretrained'):
        holder = path if path in backbones else f'{path}.backbone'
        node['pretrained'] = checkpoint_name(backbones.get(holder))
    if node.get('teacher_ckpt'):
        node['teacher_ckpt'] = None
    if str(node.get('checkpoint')).startswith('http'):
        node['checkpoint'] = checkpoint_name(None)
    init_cfgs = node.get('init_cfg') or []
    for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
        if type_name(init_cfg) in (*PRETRAINED, 'DensePretrained'):
            prefix = init_cfg.pop('prefix', '') if path not in backbones else init_cfg.get('prefix')
            init_cfg['checkpoint'] = checkpoint_name(backbones.get(path), prefix)
