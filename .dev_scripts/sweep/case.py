"""Prepares a config for a smoke run: swapped or dense, with small images, without downloads."""

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

# Height and width of the images; features at stride 32 must be larger than 1x1.
EDGES = {'mmpretrain': 64, 'mmseg': 64, 'mmdet': 128}
VGG_EDGE = 224  # the only size for the classifier of mmpretrain's VGG
SIZES = ('size', 'scale', 'random_size_range')
# NMS processes every proposal once for each class. With the 13204 classes of V3Det that takes 15
# minutes for one small image.
MANY_CLASSES, FEW_PROPOSALS = 10_000, 10
# Options that only change numbers, but neither operations nor shapes.
NUMBERS = ('init_cfg', 'pretrained', 'mean', 'std')


@dataclass(frozen=True)
class Case:
    """A config that is ready to run.

    Attributes:
        cfg (Config): The config, adapted by :func:`shrink`.
        weights (set[str]): The dummy checkpoints that the backbones must load.
        swapped (bool): Whether there must be MoD blocks.
        needs (dict): What the data must contain, see :mod:`.dummy_data`.
        hooks (list[dict]): The hooks that swapping added.
    """

    cfg: Config
    weights: set[str]
    swapped: bool
    needs: dict
    hooks: list[dict]

    @property
    def trains(self) -> bool:
        """Whether the config has a training loop; some trackers have none."""
        return bool(self.cfg.get('train_cfg'))

    @property
    def tests(self) -> bool:
        """Whether the config has a test loop; self-supervised training has none."""
        return 'test_cfg' in self.cfg and bool(self.cfg.get('test_dataloader'))

    def digest(self) -> str:
        """A hash that is equal for configs with equal models, data and loops."""

        def strip(node):
            if isinstance(node, dict):
                return {key: value for key, value in node.items() if key not in NUMBERS}
            return node

        content = [map_tree(self.cfg.model, strip), self.needs, self.trains, self.tests]
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def config_folder(toolbox: str) -> Path:
    """The config folder of an installed toolbox."""
    return Path(import_module(toolbox).__file__).parent / '.mim' / 'configs'


def read_config(toolbox: str, name: str) -> Config:
    """Read a config of a toolbox as tools/train.py does."""
    return parse_config(config_folder(toolbox) / name)


def dense_backbones(cfg: Config) -> dict[str, dict]:
    """The nodes that :func:`mmcnnmod.swap_backbone` replaces, by path."""
    refs = [ref for ref in find_backbones(cfg) if ref.new and not ref.is_teacher]
    return {ref.path: ref.node.to_dict() for ref in refs}


def make_case(cfg: Config, swapped: bool, factor: int = 1) -> Case:
    """Swap the backbones of a config, if asked to, and shrink it; both change it in place."""
    dense = dense_backbones(cfg)
    unswapped = deepcopy(cfg)
    shrink(unswapped, dense, factor)
    hooks = list(cfg.get('custom_hooks') or [])
    if swapped:
        swap_backbone(cfg, log=lambda line: None)
    edge = shrink(cfg, dense, factor)
    return Case(
        cfg=cfg,
        weights=backbone_weights(unswapped.model),
        swapped=swapped,
        needs=dummy_data.needs(cfg, edge),
        hooks=[hook for hook in cfg.get('custom_hooks') or [] if hook not in hooks],
    )


def shrink(cfg: Config, backbones: dict[str, dict], factor: int) -> int:
    """Adapt a config in place to small images, one CPU and no network.

    Args:
        cfg (Config): The config.
        backbones (dict[str, dict]): Its :func:`dense_backbones`.
        factor (int): Multiplies the size of the images.

    Returns:
        int: Height and width of the images.
    """
    if cfg.get('data_preprocessor'):  # as mmengine's runner does
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
    """Let a backbone load dummy weights of the dense one, and other parts the empty checkpoint."""
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
            if path not in backbones:
                init_cfg.pop('prefix', None)
            init_cfg['checkpoint'] = checkpoint_name(backbones.get(path), init_cfg.get('prefix'))
