"""The configs build, and have the settings of the paper's experiments."""

import functools
import importlib
import math
import pickle
import re
from copy import deepcopy
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.registry import DefaultScope

from mmcnnmod.analysis.counting import count_params
from mmcnnmod.analysis.paper import find_row
from mmcnnmod.cli.config import innermost_datasets
from mmcnnmod.layers import MoDBlock
from mmcnnmod.toolboxes import is_absent

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
IMAGENET = [name for name in NAMES if name.endswith('_in1k')]
CONVNEXT = [name for name in IMAGENET if name.startswith('convnext')]
APPENDIX_A1 = [name for name in IMAGENET if name not in CONVNEXT]
CITYSCAPES = [name for name in NAMES if name.endswith('_cityscapes')]
VOC = [name for name in NAMES if name.endswith('_voc0712')]
CIFAR = [name for name in NAMES if name.endswith(('_cifar10', '_cifar100'))]
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')

# Configs whose results are compared, and the only keys in which the configs of a group may differ.
MOD_OPTIONS = ('type', 'c', 'position', 'fusion', 'selection', 'placement', 'mod_stages')
GROUPS = {
    'Tables 1, 7, 8, 10': (
        [name for name in IMAGENET if name.startswith('resnet')],
        [*(f'model.backbone.{key}' for key in ('depth', *MOD_OPTIONS)), 'model.head.in_channels'],
    ),
    'Table 2': (
        [name for name in IMAGENET if name.startswith('mobilenet')],
        ['model.backbone.type', 'model.backbone.arch'],
    ),
    'appendix A.1': (APPENDIX_A1, ['model']),
    'ConvNeXt': (
        CONVNEXT,
        ['model.backbone.arch', 'model.backbone.drop_path_rate', 'model.head.in_channels'],
    ),
    'Table 3': (CITYSCAPES, ['model.backbone.type', 'model.backbone.depth']),
    'Table 4': (VOC, ['model.backbone.type', 'model.backbone.depth']),
    **{
        f'Table 9, {family}, {data}': (
            [name for name in CIFAR if name.startswith(family) and name.endswith(f'_{data}')],
            ['model.backbone.type', 'model.backbone.depth', 'model.head.in_channels'],
        )
        for family in ('resnet', 'vgg')
        for data in ('cifar10', 'cifar100')
    },
    **{
        f'Table 9, {data}': ([name for name in CIFAR if name.endswith(f'_{data}')], ['model'])
        for data in ('cifar10', 'cifar100')
    },
}


def config(name):
    """A copy of a parsed config; skips where its toolbox is not installed."""
    toolbox = {'fcn': 'mmseg', 'faster-rcnn': 'mmdet'}.get(name.split('_')[0], 'mmpretrain')
    if is_absent(toolbox):
        pytest.skip(f'{toolbox} is not installed')
    return deepcopy(parse(name))


@functools.cache
def parse(name):
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def build(scope, registry, node, device='cpu'):
    module = importlib.import_module(f'{scope}.registry')
    with DefaultScope.overwrite_default_scope(scope), torch.device(device):
        return getattr(module, registry).build(node)


def build_model(scope, node):
    # Parameters on the meta device need no time and memory. But mmpretrain reads the values of a
    # linspace for drop_path_rate, and ConvNeXt reads other values.
    backbone = node.get('backbone', node)
    device = 'cpu' if backbone.type.startswith('ConvNeXt') else 'meta'
    with mock.patch('torch.linspace', functools.partial(torch.linspace, device='cpu')):
        return build(scope, 'MODELS', node, device)


@functools.cache
def model_of(name):
    cfg = config(name)
    return build_model(cfg.default_scope, cfg.model)


def without_scope(node):
    """Remove the `_scope_` that mmengine adds to nodes from a toolbox's base config."""
    if isinstance(node, dict):
        return ConfigDict({k: without_scope(v) for k, v in node.items() if k != '_scope_'})
    return type(node)(map(without_scope, node)) if isinstance(node, (list, tuple)) else node


def transform_of(pipeline, kind):
    """The only transform of a type in a pipeline."""
    (found,) = [transform for transform in pipeline if transform.type == kind]
    return found


FAMILIES = {
    'resnet': 'ResNet',
    'fcn': 'ResNet',
    'faster-rcnn': 'ResNet',
    'mobilenet-v2': 'MobileNetV2',
    'vgg': 'VGG',
    'convnext': 'ConvNeXt',
}


@pytest.mark.parametrize('name', NAMES)
def test_model_is_built_without_pretrained_weights(name):
    cfg = config(name)
    model = model_of(name)
    backbone = model.backbone

    toolbox = cfg.default_scope
    (kind,) = [kind for family, kind in FAMILIES.items() if name.startswith(family)]
    module = f'{toolbox}.models.backbones'
    if '-mod' in name:
        kind, module = f'{kind}MoD', f'mmcnnmod.toolboxes.{toolbox}'
    if name.startswith('resnet') and 'cifar' in name:
        kind = f'{kind}_CIFAR'
    assert type(backbone).__name__ == kind
    assert type(backbone).__module__.startswith(module)
    if size := re.search(r'(?:resnet|vgg|_r)(\d+)', name):
        assert cfg.model.backbone.depth == int(size[1])
    if name in CONVNEXT:
        assert cfg.model.backbone.arch == name.split('-')[1]

    # Training starts from random weights, so all layers must be trained.
    assert cfg.model.get('pretrained') is None
    assert 'init_cfg' not in cfg.model.backbone
    assert backbone.frozen_stages <= 0
    assert getattr(backbone, 'norm_eval', False) is False
    assert all(parameter.requires_grad for parameter in model.parameters())

    # The networks of Table 8 select other channels, but have the parameters of Table 1.
    row = find_row(name.replace('-lk_', '_').replace('-folder', ''))
    if row:
        printed = row.expected('params')
        digits = len(printed.split('.')[1])
        assert f'{count_params(model) / 1e6:.{digits}f}' == printed


def mod_blocks(name):
    return [m for m in model_of(name).backbone.modules() if isinstance(m, MoDBlock)]


@pytest.mark.parametrize('name', [name for name in NAMES if '-mod' in name])
def test_mod_options_match_the_name(name):
    blocks = mod_blocks(name)
    (variant,) = re.findall(r'-mod((?:-[a-z0-9]+)*)_', name.replace('_cifar10-folder', '_cifar10'))
    divisor = re.search(r'-c(\d+)', variant)
    default = {'mobilenet': 16, 'convnext': 128 if 'base' in name else 96}
    assert {block.c for block in blocks} == {
        int(divisor[1]) if divisor else default.get(name.split('-')[0], 64)
    }
    position = 'original' if '-op' in variant else 'last' if '-lk' in variant else 'first'
    assert {block.fusion.position for block in blocks} == {position}
    fusion = 'replace' if '-replace' in variant else 'add'
    assert {block.fusion.mode for block in blocks} == {fusion}
    learned = any('selector' in name for block in blocks for name, _ in block.named_parameters())
    assert learned is ('-random' not in variant)


def test_placement_determines_the_number_of_mod_blocks():
    # The stages of ResNet-50 have 3, 4, 6 and 3 blocks.
    assert len(mod_blocks('resnet50-mod_in1k')) == 1 + 2 + 3 + 1
    assert len(mod_blocks('resnet50-mod-stages_in1k')) == 3 + 1
    assert len(mod_blocks('resnet50-mod-every_in1k')) == 2 + 3 + 5 + 2


@pytest.mark.parametrize('name', NAMES)
def test_config_has_what_the_tools_of_a_toolbox_read(name):
    cfg = config(name)
    assert cfg.custom_imports == dict(imports=['mmcnnmod'], allow_failed_imports=False)
    assert cfg.default_scope in ('mmpretrain', 'mmseg', 'mmdet')
    assert cfg.env_cfg.dist_cfg.backend == 'nccl'
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert cfg.randomness.seed == 0
    for key in ('train_cfg', 'val_cfg', 'test_cfg', 'val_evaluator', 'test_evaluator'):
        assert key in cfg


@pytest.mark.parametrize('name', NAMES)
def test_datasets_are_built_and_share_a_root(name):
    cfg = config(name)
    assert cfg.data_root.endswith('/')
    for loader in LOADERS:
        for dataset in innermost_datasets(cfg[loader].dataset):
            assert dataset.data_root == cfg.data_root
            # This builds the pipeline, too, without reading data.
            build(cfg.default_scope, 'DATASETS', dict(dataset, lazy_init=True))
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        build(cfg.default_scope, 'METRICS', evaluator)


@pytest.mark.parametrize('group', GROUPS)
def test_backbone_checkpoint_can_be_given_as_options(group):
    cfg = config(GROUPS[group][0][0])
    given = dict(type='Pretrained', checkpoint='x.pth', prefix='backbone.')
    cfg.merge_from_dict({f'model.backbone.init_cfg.{key}': value for key, value in given.items()})
    assert build_model(cfg.default_scope, cfg.model.backbone).init_cfg == given


@pytest.mark.parametrize('group', GROUPS)
def test_configs_of_a_group_differ_only_in_its_keys(group):
    names, keys = GROUPS[group]

    def other_settings(name):
        cfg = config(name).to_dict()
        for key in keys:
            *parents, last = key.split('.')
            functools.reduce(dict.__getitem__, parents, cfg).pop(last, None)
        return cfg

    assert len(names) >= 3
    for name in names[1:]:
        assert other_settings(name) == other_settings(names[0])


# One config of each network is enough here: the others of its group have the same settings.
@pytest.mark.parametrize('name', ['resnet50_in1k', 'mobilenet-v2_in1k'])
def test_imagenet_settings_follow_appendix_a1(name):
    cfg = without_scope(config(name).to_dict())
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0001
    )
    assert cfg.param_scheduler == dict(
        type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1
    )
    assert cfg.train_cfg.max_epochs == 100
    assert 4 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 256
    if name.startswith('resnet'):
        assert cfg.model.backbone.zero_init_residual is False
    assert cfg.model.head.num_classes == 1000
    assert cfg.model.head.loss == dict(type='CrossEntropyLoss', loss_weight=1.0)

    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    assert [transform.type for transform in train.pipeline] == [
        'LoadImageFromFile', 'RandomResizedCrop', 'RandomFlip', 'PackInputs',
    ]  # fmt: skip
    assert transform_of(train.pipeline, 'RandomResizedCrop').scale == 224
    assert transform_of(train.pipeline, 'RandomFlip').prob == 0.5
    assert transform_of(test.pipeline, 'ResizeEdge').scale == 256
    assert transform_of(test.pipeline, 'CenterCrop').crop_size == 224
    assert (train.split, test.split) == ('train', 'val')


@pytest.mark.parametrize('name', CONVNEXT)
def test_convnext_settings_are_those_of_mmpretrain(name):
    ours = config(name)
    arch = ours.model.backbone.arch
    theirs = get_config(f'mmpretrain::convnext/convnext-{arch}_32xb128_in1k.py')
    theirs.model.backbone.type = 'ConvNeXtMoD'
    assert without_scope(ours.model) == without_scope(theirs.model)
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'custom_hooks', 'auto_scale_lr'):
        left, right = without_scope(ours[key]), without_scope(theirs[key])
        if key == 'optim_wrapper':
            assert left.pop('type') == 'OptimWrapper'
        assert left == right
    for loader in LOADERS:
        left, right = without_scope(ours[loader]), without_scope(theirs[loader])
        left.dataset.pop('data_root')
        right.dataset.pop('data_root')
        assert left == right


def test_cityscapes_settings_follow_appendix_b():
    cfg = config('fcn_r50_cityscapes')
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005
    )
    assert cfg.param_scheduler == [
        dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=80000, by_epoch=False)
    ]
    assert cfg.train_cfg == dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
    assert cfg.default_hooks.checkpoint.interval == 8000
    assert cfg.test_evaluator == dict(type='IoUMetric', iou_metrics=['mIoU'])
    assert cfg.train_dataloader.batch_size == 2

    backbone, decode, auxiliary = (
        cfg.model[key] for key in ('backbone', 'decode_head', 'auxiliary_head')
    )
    assert (backbone.strides, backbone.dilations) == ((1, 2, 1, 1), (1, 1, 2, 4))
    assert backbone.contract_dilation is True
    for part in (backbone, decode, auxiliary):
        assert part.norm_cfg.type == 'SyncBN'
    assert (decode.type, auxiliary.type) == ('FCNHead', 'FCNHead')
    assert (decode.dropout_ratio, auxiliary.dropout_ratio) == (0.1, 0.1)
    assert (decode.loss_decode.loss_weight, auxiliary.loss_decode.loss_weight) == (1.0, 0.4)

    pipeline = cfg.train_dataloader.dataset.pipeline
    assert transform_of(pipeline, 'RandomResize').ratio_range == (0.5, 2.0)
    assert transform_of(pipeline, 'RandomCrop').crop_size == (512, 1024)
    assert cfg.model.data_preprocessor.size == (512, 1024)
    assert transform_of(pipeline, 'RandomFlip').prob == 0.5
    assert transform_of(pipeline, 'PhotoMetricDistortion')


def test_test_time_augmentation_uses_scales_and_flips():
    cfg = config('fcn_r50_cityscapes')
    assert 'TestTimeAug' not in [t.type for t in cfg.test_dataloader.dataset.pipeline]

    scales, flips, *_ = transform_of(cfg.tta_pipeline, 'TestTimeAug').transforms
    assert [scale.scale_factor for scale in scales] == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert [flip.prob for flip in flips] == [0.0, 1.0]
    cfg.tta_model.module = cfg.model
    assert build('mmseg', 'MODELS', cfg.tta_model, 'meta').module.backbone
    build('mmseg', 'TRANSFORMS', transform_of(cfg.tta_pipeline, 'TestTimeAug'))


def test_voc_settings_follow_appendix_c():
    cfg = without_scope(config('faster-rcnn_r50_fpn_voc0712').to_dict())
    assert cfg.model.type == 'FasterRCNN'
    assert cfg.model.neck.type == 'FPN'
    assert cfg.model.roi_head.bbox_head.num_classes == 20

    train = cfg.train_dataloader
    assert train.batch_size == 2
    assert train.batch_sampler.type == 'AspectRatioBatchSampler'
    assert [dataset.ann_file for dataset in innermost_datasets(train.dataset)] == [
        'VOC2007/ImageSets/Main/train.txt',
        'VOC2012/ImageSets/Main/train.txt',
    ]
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.ann_file == 'VOC2007/ImageSets/Main/val.txt'
        assert 'RandomFlip' not in [t.type for t in loader.dataset.pipeline]
    for pipeline in [d.pipeline for key in LOADERS for d in innermost_datasets(cfg[key].dataset)]:
        assert transform_of(pipeline, 'Resize') == dict(
            type='Resize', scale=(1000, 600), keep_ratio=True
        )
    for dataset in innermost_datasets(train.dataset):
        assert transform_of(dataset.pipeline, 'RandomFlip').prob == 0.5
    assert cfg.test_evaluator == dict(type='VOCMetric', metric='mAP', eval_mode='11points')

    # mmdetection's schedule for VOC, as the paper gives none.
    assert (cfg.train_cfg.max_epochs, train.dataset.times) == (4, 3)
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001
    )
    (schedule,) = cfg.param_scheduler
    assert (schedule.milestones, schedule.gamma) == ([3], 0.1)


def test_unlabelled_pixels_of_camvid_are_ignored():
    cfg = config('fcn_r18-mod_camvid')
    assert cfg.model.data_preprocessor.seg_pad_val == 11
    assert cfg.model.decode_head.ignore_index == 11
    assert model_of('fcn_r18-mod_camvid').decode_head.num_classes == 11
    assert cfg.val_evaluator.ignore_index == cfg.test_evaluator.ignore_index == 11
    assert transform_of(cfg.train_dataloader.dataset.pipeline, 'RandomCrop').ignore_index == 11
    splits = []
    for loader in LOADERS:
        dataset = cfg[loader].dataset
        assert dataset.ignore_index == 11
        assert len(dataset.metainfo.classes) == len(dataset.metainfo.palette) == 11
        splits.append(tuple(dataset.data_prefix.values()))
    assert splits == [(f'images/{split}', f'labels/{split}') for split in ('train', 'val', 'test')]


def test_boxes_of_bccd_without_area_are_ignored(tmp_path):
    cfg = config('faster-rcnn_r18-mod_fpn_bccd')
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (tmp_path / 'BCCD' / folder).mkdir(parents=True)
    (tmp_path / 'BCCD/ImageSets/Main/train.txt').write_text('a\n')
    box = '<object><name>RBC</name><bndbox><xmin>{0}</xmin><ymin>{0}</ymin><xmax>{1}</xmax>'
    box += '<ymax>{1}</ymax></bndbox></object>'
    (tmp_path / 'BCCD/Annotations/a.xml').write_text(
        '<annotation><size><width>640</width><height>480</height></size>'
        f'{box.format(9, 90)}{box.format(7, 7)}</annotation>'
    )
    dataset = dict(cfg.train_dataloader.dataset, data_root=str(tmp_path))
    (image,) = build('mmdet', 'DATASETS', dataset).load_data_list()
    assert [instance['ignore_flag'] for instance in image['instances']] == [0, 1]


@pytest.mark.parametrize('network', ['resnet18', 'vgg16-bn'])
@pytest.mark.parametrize('classes', [10, 100])
def test_cifar_settings_follow_appendix_d(network, classes):
    cfg = without_scope(config(f'{network}_cifar{classes}').to_dict())
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == classes
    train, val, test = (cfg[loader].dataset for loader in LOADERS)
    assert {train.type, val.type, test.type} == {f'CIFAR{classes}'}
    assert (train.split, val.split, test.split) == ('train', 'train', 'test')
    assert train.indices - val.indices == 50000
    assert 'indices' not in test
    assert 'RandomFlip' in [transform.type for transform in train.pipeline]
    for dataset in (val, test):
        assert [transform.type for transform in dataset.pipeline] == ['PackInputs']
    assert cfg.default_hooks.checkpoint.save_best == 'auto'

    # mmpretrain's recipes, as the paper gives none.
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.train_cfg.max_epochs == 200
    decay, milestones, gamma = (
        (0.0001, [100, 150], 0.1) if classes == 10 else (0.0005, [60, 120, 160], 0.2)
    )
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=decay)
    assert cfg.param_scheduler == dict(
        type='MultiStepLR', by_epoch=True, milestones=milestones, gamma=gamma
    )


def write_cifar(folder, kind, monkeypatch):
    """Write 50 + 10 images in the format of CIFAR; the first pixel is the index of the image."""
    label = 'labels' if kind.__name__ == 'CIFAR10' else 'fine_labels'
    files = kind.train_list + kind.test_list
    (folder / kind.base_folder).mkdir(parents=True)
    for begin, (file, _) in zip(range(0, 60, 50 // len(kind.train_list)), files, strict=False):
        size = 50 // len(kind.train_list) if file != kind.test_list[0][0] else 10
        images = np.zeros((size, 3072), np.uint8)
        images[:, 0] = range(begin, begin + size)
        (folder / kind.base_folder / file).write_bytes(
            pickle.dumps({'data': images, label: [0] * size})
        )
    # Accept files with other checksums than the original ones.
    monkeypatch.setattr(kind, 'train_list', [[file, None] for file, _ in kind.train_list])
    monkeypatch.setattr(kind, 'test_list', [[file, None] for file, _ in kind.test_list])


@pytest.mark.parametrize('classes', [10, 100])
def test_splits_of_cifar_are_disjoint_and_complete(classes, tmp_path, monkeypatch):
    cfg = config(f'resnet18_cifar{classes}')
    cifar = importlib.import_module('mmpretrain.datasets.cifar')
    # CIFAR100 inherits from CIFAR10, so each gets its own list.
    write_cifar(tmp_path, getattr(cifar, f'CIFAR{classes}'), monkeypatch)
    parts = []
    for loader in LOADERS:
        dataset = dict(cfg[loader].dataset, data_root=str(tmp_path))
        if 'indices' in dataset:  # 50 images stand for 50000
            assert dataset['indices'] % 1000 == 0
            dataset['indices'] //= 1000
        built = build('mmpretrain', 'DATASETS', dataset)
        parts.append({int(built.get_data_info(i)['img'][0, 0, 0]) for i in range(len(built))})
    train, val, test = parts
    assert (len(train), len(val), len(test)) == (45, 5, 10)
    assert train | val == set(range(50))
    assert test == set(range(50, 60))


def test_cifar10_is_normalised_in_rgb_from_pickles_and_image_files():
    arrays, files = config('resnet18-mod_cifar10'), config('resnet18-mod_cifar10-folder')
    assert arrays.data_preprocessor.to_rgb is False
    assert files.data_preprocessor.to_rgb is True
    assert arrays.data_preprocessor.mean == files.data_preprocessor.mean
    assert files.default_hooks.checkpoint.save_best is None


def test_readme_links_every_config_once():
    text = (ROOT / 'configs/README.md').read_text()
    assert sorted(re.findall(r'\]\(([^)/]+)\.py\)', text)) == sorted([*NAMES, 'resnet50-mod_in1k'])


def metafiles():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    return [yaml.safe_load((ROOT / path).read_text()) for path in index['Import']]


def test_model_index_lists_every_config_once():
    models = [model for metafile in metafiles() for model in metafile['Models']]
    assert sorted(model['Name'] for model in models) == NAMES
    collections = {c['Name'] for metafile in metafiles() for c in metafile['Collections']}
    for model in models:
        assert model['Config'] == f'configs/{model["Name"]}.py'
        assert model['In Collection'] in collections
        # No model has been trained, so there are neither weights nor metrics.
        assert 'Weights' not in model
        assert [result['Metrics'] for result in model['Results']] == [{}]


@pytest.mark.parametrize(
    ('scope', 'task'),
    [
        ('mmpretrain', 'Image Classification'),
        ('mmseg', 'Semantic Segmentation'),
        ('mmdet', 'Object Detection'),
    ],
)
def test_metafile_of_a_toolbox_describes_its_models(scope, task):
    for model in yaml.safe_load((ROOT / f'configs/metafile-{scope}.yml').read_text())['Models']:
        assert config(model['Name']).default_scope == scope
        assert model['Metadata']['Parameters'] == count_params(model_of(model['Name']))
        assert {result['Task'] for result in model['Results']} == {task}


def test_model_index_is_readable_for_mim():
    modelindex = pytest.importorskip('modelindex.load_model_index')
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert index.check(silent=True) in (None, True, [])
    assert sorted(model.name for model in index.models) == NAMES
    assert all(math.isfinite(model.metadata.data['FLOPs']) for model in index.models)
