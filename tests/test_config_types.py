"""Classes and functions in configs become names that mmengine, mmcv and config files can use."""

from pkgutil import resolve_name

import pytest
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmcnnmod import swap_backbone
from mmcnnmod.config_types import name_types, readable_name, type_name, type_str
from mmcnnmod.layers import MoDBlock

NEW_STYLE = """
from mmcv.ops import RoIAlign, nms
from mmdet.models import {parts}
from mmdet.models.losses import {losses}
from mmdet.models.task_modules import {tasks}
"""
PARTS = 'FPN FasterRCNN ResNet RPNHead Shared2FCBBoxHead SingleRoIExtractor StandardRoIHead'
MODEL = """
assigner = dict(type=MaxIoUAssigner, pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
sampler = dict(type=RandomSampler, num=16, pos_fraction=0.5)
coder = dict(type=DeltaXYWHBBoxCoder)
proposals = dict(nms_pre=20, max_per_img=10, nms=dict(type=nms, iou_threshold=0.7), min_bbox_size=0)
box_head = dict(
    type=Shared2FCBBoxHead, in_channels=16, fc_out_channels=16, roi_feat_size=7, num_classes=3,
    bbox_coder=coder, loss_cls=dict(type=CrossEntropyLoss), loss_bbox=dict(type=L1Loss))
roi_extractor = dict(
    type=SingleRoIExtractor, roi_layer=dict(type=RoIAlign, output_size=7), out_channels=16,
    featmap_strides=[4, 8, 16, 32])
model = dict(
    type=FasterRCNN,
    backbone=dict(type=ResNet, depth=18, norm_eval=False),
    neck=dict(type=FPN, in_channels=[64, 128, 256, 512], out_channels=16, num_outs=5),
    rpn_head=dict(
        type=RPNHead, in_channels=16, feat_channels=16, bbox_coder=coder,
        anchor_generator=dict(
            type=AnchorGenerator, scales=[8], ratios=[1.0], strides=[4, 8, 16, 32, 64]),
        loss_cls=dict(type=CrossEntropyLoss, use_sigmoid=True), loss_bbox=dict(type=L1Loss)),
    roi_head=dict(type=StandardRoIHead, bbox_roi_extractor=roi_extractor, bbox_head=box_head),
    train_cfg=dict(
        rpn=dict(assigner=assigner, sampler=sampler, allowed_border=-1, pos_weight=-1),
        rpn_proposal=proposals, rcnn=dict(assigner=assigner, sampler=sampler, pos_weight=-1)),
    test_cfg=dict(
        rpn=proposals,
        rcnn=dict(score_thr=0.0, nms=dict(type=nms, iou_threshold=0.5), max_per_img=5)))
"""


@pytest.fixture(params=['classes', 'classes in modules with the name of a function'])
def new_style(request, tmp_path):
    """A new-style config of a detector without a default_scope."""
    pytest.importorskip('mmdet.models')
    text = NEW_STYLE.format(
        parts=', '.join(PARTS.split()),
        losses='CrossEntropyLoss, L1Loss',
        tasks='AnchorGenerator, DeltaXYWHBBoxCoder, MaxIoUAssigner, RandomSampler',
    )
    if request.param != 'classes':
        text = text.replace(
            'from mmdet.models.losses import CrossEntropyLoss, L1Loss',
            'from mmdet.models.losses.cross_entropy_loss import CrossEntropyLoss\n'
            'from mmdet.models.losses.smooth_l1_loss import L1Loss',
        )
    path = tmp_path / 'new_style.py'
    path.write_text(text + MODEL)
    return path


def test_swapped_config_can_be_dumped_read_and_built(new_style, tmp_path):
    cfg = Config.fromfile(new_style)
    swap_backbone(cfg, log=str)
    assert cfg.model.backbone.type == 'mmdet.ResNetMoD'
    cfg.dump(tmp_path / 'dumped.py')
    for source in (cfg, Config.fromfile(tmp_path / 'dumped.py')):
        init_default_scope('mmdet')
        model = MODELS.build(source.model)
        assert any(isinstance(module, MoDBlock) for module in model.modules())
        assert type(model.rpn_head.loss_bbox).__name__ == 'L1Loss'
        assert model.test_cfg.rcnn.nms.type == 'nms'


@pytest.mark.parametrize(
    ('path', 'name'),
    [
        ('mmcv.ops:nms', 'nms'),
        ('mmcv.ops:RoIAlign', 'RoIAlign'),
        ('mmdet.models.losses:L1Loss', 'mmdet.models.losses.L1Loss'),
        ('mmdet.models:ResNet', 'mmdet.models.backbones.resnet.ResNet'),
        ('torch.nn:GroupNorm', 'torch.nn.modules.normalization.GroupNorm'),
    ],
)
def test_readable_names(path, name):
    pytest.importorskip('mmdet.models')
    assert readable_name(resolve_name(path)) == name


def test_names_replace_types_in_nested_configs():
    cfg = Config(
        dict(
            a=dict(type=nn.ReLU),
            b=[dict(c=(dict(type=nn.BatchNorm2d),)), 1],
            collate_fn=pseudo_collate,
            d='text',
            e=None,
        )
    )
    name_types(cfg)
    assert cfg.a.type == 'torch.nn.modules.activation.ReLU'
    assert cfg.b[0].c[0]['type'] == 'torch.nn.modules.batchnorm.BatchNorm2d'
    # Values of other keys are kept: mmengine accepts a function or a dict here.
    assert cfg.collate_fn is pseudo_collate
    assert (cfg.b[1], cfg.d, cfg.e) == (1, 'text', None)


def test_type_names():
    for kind in (nn.GroupNorm, 'GroupNorm', 'torch.nn.GroupNorm'):
        assert type_name(dict(type=kind)) == 'GroupNorm'
    assert type_str(dict(type=nn.GroupNorm)) == 'torch.nn.modules.normalization.GroupNorm'
    assert type_name({}) == ''
