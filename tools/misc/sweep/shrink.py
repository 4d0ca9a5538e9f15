"""Small images in place of large ones, made-up weights in place of downloads."""

from __future__ import annotations

from mmengine.config import Config

from mmcnnmod.cli.config import revert_sync_bn
from mmcnnmod.config_types import PRETRAINED, type_name
from mmcnnmod.swap.backbone_refs import iter_dicts

from .checkpoints import made_up_name

# Height and width of the images: something is left at stride 32.
EDGES = {'mmpretrain': 64, 'mmseg': 64, 'mmdet': 128}
# What mmpretrain's VGG takes with its classifier, and nothing else.
VGG_EDGE = 224
SIZES = ('size', 'scale', 'random_size_range')
# NMS looks at every proposal once for each class; with V3Det's 13204 that takes a quarter of an
# hour for the proposals of one small image.
MANY_CLASSES, FEW_PROPOSALS = 10_000, 10


def shrink(cfg: Config, backbones: dict[str, dict], factor: int = 1) -> int:
    """Fit a config to small images, one CPU and no network.

    Args:
        cfg (Config): Changed in place: sizes in the data preprocessors, SyncBN, checkpoints; with
            more than 10000 classes also the number of proposals in predictions.
        backbones (dict[str, dict]): The dense nodes of its backbones, by their paths.
        factor (int): For images larger than usual. Defaults to 1.

    Returns:
        int: Height and width of the images to make up.
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
            for key in SIZES:
                if node.get(key) is not None:
                    node[key] = (edge, edge)
        if node.get('num_classes', 0) > MANY_CLASSES and 'rpn' in (cfg.model.get('test_cfg') or {}):
            cfg.model.test_cfg.rpn.max_per_img = FEW_PROPOSALS
        replace_checkpoints(path, node, backbones)
    return edge


def replace_checkpoints(path: str, node: dict, backbones: dict[str, dict]) -> None:
    """Let a node load made-up weights: a backbone a dense one's, other parts none."""
    if node.get('pretrained'):
        holder = path if path in backbones else f'{path}.backbone'
        node['pretrained'] = made_up_name(backbones.get(holder))
    if node.get('teacher_ckpt'):
        node['teacher_ckpt'] = None
    if str(node.get('checkpoint')).startswith('http'):
        node['checkpoint'] = made_up_name(None)
    init_cfgs = node.get('init_cfg') or []
    for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
        if type_name(init_cfg) in (*PRETRAINED, 'DensePretrained'):
            prefix = init_cfg.pop('prefix', '') if path not in backbones else init_cfg.get('prefix')
            init_cfg['checkpoint'] = made_up_name(backbones.get(path), prefix)
