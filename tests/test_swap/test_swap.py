"""swap_backbone on configs of the toolboxes."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmcnnmod import swap_backbone
from mmcnnmod.errors import UserError
from mmcnnmod.layers import MoDBlock

FCN = 'mmseg/fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'
FASTER_RCNN = 'mmdet/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
MOBILENET_V2 = 'mmseg/mobilenet_v2/mobilenet-v2-d8_fcn_4xb2-80k_cityscapes-512x1024.py'
RESNET18 = 'mmpretrain/resnet/resnet18_8xb32_in1k.py'


def upstream(path):
    """A config of an installed toolbox."""
    toolbox, _, name = path.partition('/')
    package = pytest.importorskip(toolbox)
    return Config.fromfile(Path(package.__file__).parent / '.mim' / 'configs' / name)


def leaves(node, path=''):
    """All values of nested dicts and lists by path."""
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        return {path.lstrip('.'): node}
    return {key: leaf for k, v in items for key, leaf in leaves(v, f'{path}.{k}').items()}


def changes(cfg, **options):
    """The values by path that swapping sets or removes (None), and the lines that it logs."""
    log = []
    before = leaves(cfg.to_dict())
    assert swap_backbone(cfg, log=log.append, **options) is cfg
    after = leaves(cfg.to_dict())
    changed = {
        key: after.get(key)
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key) or (key in before) != (key in after)
    }
    assert changed.pop('custom_imports.imports.0', 'mmcnnmod') == 'mmcnnmod'
    assert changed.pop('custom_imports.allow_failed_imports', False) is False
    return changed, log


@pytest.mark.parametrize(
    ('config', 'path', 'kind', 'checkpoint'),
    [
        (FCN, 'model.backbone', 'ResNetV1cMoD', 'open-mmlab://resnet50_v1c'),
        (
            'mmseg/icnet/icnet_r50-d8-in1k-pre_4xb2-80k_cityscapes-832x832.py',
            'model.backbone.backbone_cfg',
            'ResNetV1cMoD',
            'open-mmlab://resnet50_v1c',
        ),
        (FASTER_RCNN, 'model.backbone', 'ResNetMoD', 'torchvision://resnet50'),
        (
            'mmdet/soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py',
            'model.detector.backbone',
            'ResNetMoD',
            'open-mmlab://detectron2/resnet50_caffe',
        ),
        (RESNET18, 'model.backbone', 'ResNetMoD', None),
        ('mmpretrain/resnet/resnet18_8xb16_cifar10.py', 'model.backbone', 'ResNetMoD_CIFAR', None),
    ],
)
def test_only_the_backbone_and_its_initial_weights_change(config, path, kind, checkpoint):
    changed, log = changes(upstream(config))
    expected = {f'{path}.type': kind}
    if checkpoint:
        expected[f'{path}.init_cfg.type'] = 'DensePretrained'
        expected[f'{path}.init_cfg.checkpoint'] = checkpoint
        expected['model.pretrained'] = None
    hook = [line for line in log if line.startswith('custom_hooks: ReestimateNormsHook added')]
    assert bool(hook) == config.startswith('mmdet')  # norm_eval=True
    hooks = [changed.pop(f'custom_hooks.{i}.type', None) for i in range(2)]
    assert hooks.count('ReestimateNormsHook') == len(hook)
    # If the dense weights were in init_cfg, fewer values change.
    assert {**expected, **changed} == expected
    assert changed[f'{path}.type'] == kind
    assert changed.get(f'{path}.init_cfg.type') == ('DensePretrained' if checkpoint else None)
    assert len(log) == (2 if checkpoint else 1) + len(hook)
    assert log[0].startswith(f'{path}.type: ')


def test_backbone_in_a_list():
    cfg = upstream('mmpretrain/arcface/resnet50-arcface_8xb32_inshop.py')
    old = cfg.model.image_encoder[0].init_cfg.to_dict()
    swap_backbone(cfg, log=str)
    backbone, pooling = cfg.model.image_encoder
    assert (backbone.type, pooling.type) == ('ResNetMoD', 'GlobalAveragePooling')
    assert backbone.init_cfg == {**old, 'type': 'DensePretrained'}


def test_depth_and_options():
    cfg = upstream(FASTER_RCNN)
    changed, log = changes(cfg, depth=75, c=32, mod_stages=[1, 2])
    assert cfg.model.backbone.depth == 75
    assert cfg.model.backbone.c == 32
    assert cfg.model.backbone.mod_stages == [1, 2]
    assert 'model.backbone.depth: 50 -> 75' in log
    changed.pop('custom_hooks.0.type')
    assert not [key for key in changed if not key.startswith('model.backbone.')]
    init_default_scope('mmdet')
    cfg.model.backbone.init_cfg = None
    network = MODELS.build(cfg.model.backbone)
    assert [any(isinstance(block, MoDBlock) for block in stage) for stage in stages(network)] == [
        False, True, True, False,
    ]  # fmt: skip
    assert [len(stage) for stage in stages(network)] == [3, 4, 14, 3]


def stages(network):
    return [getattr(network, name) for name in network.res_layers]


@pytest.mark.parametrize(
    ('config', 'options', 'message'),
    [
        (FCN, dict(depth=18), 'model.backbone: depth 18 cannot replace 50; choose from 50, 75'),
        (FCN, dict(depth=76), 'depth 76 cannot replace 50'),
        (
            FCN,
            dict(backend='native'),
            "backend='native' was removed in 0.2.0; remove it; for speed call mmcnnmod.switch_to",
        ),
        (FCN, dict(width=2), "'width' is not an MoD option; choose from depth, c, r, position"),
        (MOBILENET_V2, dict(depth=75), 'model.backbone: MobileNetV2MoD has no depth option'),
        (
            'mmdet/retinanet/retinanet_x101-32x4d_fpn_1x_coco.py',
            {},
            'model.backbone is ResNeXt; there are MoD versions of .*Re',
        ),
    ],
)
def test_error_leaves_the_config_unchanged(config, options, message):
    cfg = upstream(config)
    before = cfg.to_dict()
    with pytest.raises(UserError, match=message):
        swap_backbone(cfg, log=str, **options)
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (dict(default_scope=None), 'no default_scope; set mmpretrain, mmseg or mmdet'),
        (dict(model=dict(type='YOLO')), 'no backbone to swap: the model has none'),
    ],
)
def test_config_without_toolbox_or_backbone_is_an_error(changed, message):
    cfg = upstream(FCN)
    for key, value in changed.items():
        cfg[key] = value
    with pytest.raises(UserError, match=message):
        swap_backbone(cfg)


def test_teacher_is_kept():
    cfg = upstream('mmdet/lad/lad_r101-paa-r50_fpn_2xb8_coco_1x.py')
    teacher = cfg.model.teacher_backbone.to_dict()
    changed, log = changes(cfg)
    assert cfg.model.teacher_backbone.to_dict() == teacher
    assert changed['model.backbone.type'] == 'ResNetMoD'
    assert 'model.teacher_backbone stays ResNet: a teacher keeps its weights' in log


def test_weights_of_a_whole_model_are_kept_for_its_other_parts():
    config = 'deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py'
    cfg = upstream(f'mmdet/{config}')
    detector, reid = (cfg.model[part].init_cfg.to_dict() for part in ('detector', 'reid'))
    swap_backbone(cfg, log=str)
    assert cfg.model.detector.backbone.type == 'ResNetMoD'
    assert cfg.model.reid.backbone.type == 'mmpretrain.ResNetMoD'
    for part, before in (('detector', detector), ('reid', reid)):
        assert cfg.model[part].init_cfg == before
        assert cfg.model[part].backbone.init_cfg == dict(
            type='DensePretrained', checkpoint=before['checkpoint'], mapping='same'
        )


@pytest.mark.parametrize(
    ('source', 'resume', 'warm'),
    [('url', False, True), ('url', True, False), ('dense', False, True), ('mod', False, False)],
)
def test_load_from_of_a_dense_network_becomes_a_warm_start(source, resume, warm, tmp_path):
    cfg = upstream('mmdet/cityscapes/faster-rcnn_r50_fpn_1x_cityscapes.py')
    cfg.resume = resume
    if source != 'url':
        block = 'layer1.1.conv_block.0.conv' if source == 'mod' else 'layer1.0.conv1'
        weights = {'backbone.layer1.0.conv1.weight': torch.ones(1)}
        weights[f'backbone.{block}.weight'] = torch.ones(1)
        cfg.load_from = str(tmp_path / 'a.pth')
        torch.save({'state_dict': weights}, cfg.load_from)
    swap_backbone(cfg, log=str)
    start = dict(type='DensePretrained', checkpoint=cfg.load_from, mapping='same')
    assert cfg.model.backbone.get('init_cfg') == (start if warm else None)
    # Norms of a trained MoD network keep their statistics.
    assert bool(cfg.get('custom_hooks')) == warm


def test_pretrained_of_mmpretrain_belongs_to_the_whole_model():
    cfg = upstream(RESNET18)
    cfg.model.pretrained = 'dense.pth'
    swap_backbone(cfg, log=str)
    assert cfg.model.pretrained == 'dense.pth'
    assert cfg.model.backbone.init_cfg.type == 'DensePretrained'


def test_every_family_gets_a_warm_start():
    cfg = upstream(MOBILENET_V2)
    checkpoint = cfg.model.pretrained
    cfg.model.backbone.update(norm_eval=True)
    changed, _ = changes(cfg)
    assert checkpoint
    assert changed == {
        'model.backbone.type': 'MobileNetV2MoD',
        'model.pretrained': None,
        'model.backbone.init_cfg.type': 'DensePretrained',
        'model.backbone.init_cfg.checkpoint': checkpoint,
        'custom_hooks.0.type': 'ReestimateNormsHook',
    }
    cfg = upstream('mmseg/convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py')
    checkpoint = cfg.model.backbone.init_cfg.checkpoint
    log = []
    swap_backbone(cfg, log=log.append)
    backbone = cfg.model.backbone
    assert backbone.type == 'mmpretrain.ConvNeXtMoD'
    assert backbone.init_cfg == dict(
        type='DensePretrained', checkpoint=checkpoint, prefix='backbone.'
    )
    assert not any('custom_hooks' in line for line in log)  # it has no batch norms


def test_norm_hook_is_added_to_other_hooks_once():
    cfg = upstream(FASTER_RCNN)
    cfg.custom_hooks = [dict(type='NumClassCheckHook')]
    swap_backbone(cfg, log=str)
    names = ['NumClassCheckHook', 'ReestimateNormsHook']
    assert [hook['type'] for hook in cfg.custom_hooks] == names
    cfg.model.backbone.type = 'ResNet'
    cfg.model.backbone.init_cfg.type = 'Pretrained'
    swap_backbone(cfg, log=str)
    assert [hook['type'] for hook in cfg.custom_hooks] == names


def test_random_initialisation_is_kept():
    cfg = upstream(FASTER_RCNN)
    cfg.model.backbone.init_cfg = [dict(type='Kaiming', layer='Conv2d')]
    changed, _ = changes(cfg)
    assert changed == {'model.backbone.type': 'ResNetMoD'}


def test_mod_config_is_unchanged():
    cfg = swap_backbone(upstream(FCN), log=str)
    before = cfg.to_dict()
    log = []
    swap_backbone(cfg, log=log.append)
    assert log == ['model.backbone stays ResNetV1cMoD: nothing to change']
    assert cfg.to_dict() == before
    with pytest.raises(UserError, match=r'--cfg-options model.backbone.depth=\.\.\.'):
        swap_backbone(cfg, depth=75, log=str)


def test_changes_are_printed_by_default(capsys):
    swap_backbone(upstream(RESNET18))
    assert capsys.readouterr().out == 'model.backbone.type: ResNet -> ResNetMoD\n'


def test_pretrained_class_of_a_new_style_config_becomes_a_warm_start(tmp_path):
    pytest.importorskip('mmdet')
    path = tmp_path / 'new_style.py'
    path.write_text(
        'from mmdet.models.backbones import ResNet\n'
        'from mmengine.model import PretrainedInit\n'
        "default_scope = 'mmdet'\n"
        'model = dict(backbone=dict(type=ResNet, depth=18,\n'
        "    init_cfg=dict(type=PretrainedInit, checkpoint='torchvision://resnet18')))\n"
    )
    cfg = swap_backbone(Config.fromfile(path), log=str)
    assert cfg.model.backbone.init_cfg == dict(
        type='DensePretrained', checkpoint='torchvision://resnet18'
    )


def test_dumped_config_imports_the_package(tmp_path):
    cfg = swap_backbone(upstream(FCN), log=str)
    cfg.dump(tmp_path / 'dumped.py')
    copy = Config.fromfile(tmp_path / 'dumped.py')
    assert copy.custom_imports.imports == ['mmcnnmod']
    assert copy.model == cfg.model
