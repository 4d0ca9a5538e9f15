"""Reading and changing configs: --data-root, --mod, SyncBN, data loaders."""

import argparse

import pytest
import torch
from mmengine.config import Config

from mmcnnmod.cli import config as edits
from mmcnnmod.cli.arguments import train_parser
from mmcnnmod.cli.config import innermost_datasets
from mmcnnmod.cli.preflight import data_paths
from mmcnnmod.cli.train import use_mixed_precision
from mmcnnmod.errors import UserError


@pytest.fixture
def cfg():
    """A config for training on COCO."""
    root = 'data/coco/'
    dataset = dict(
        type='CocoDataset',
        data_root=root,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train2017/'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(1333, 800))],
    )
    return Config(
        dict(
            default_scope='mmdet',
            data_root=root,
            launcher='none',
            train_dataloader=dict(num_workers=2, dataset=dict(type='Repeat', dataset=dataset)),
            val_evaluator=[
                dict(type='CocoMetric', ann_file=f'{root}annotations/val.json'),
                dict(type='CocoMetric', ann_file='data/coco_panoptic/val.json'),
            ],
            model=dict(
                backbone=dict(norm_cfg=dict(type='SyncBN')),
                neck=[dict(norm_cfg=dict(type='SyncBN', requires_grad=True))],
                head=dict(norm_cfg=dict(type='GN', num_groups=32)),
            ),
        )
    )


def test_data_root_changes_datasets_and_evaluators(cfg):
    edits.set_data_root(cfg, '/set/coco')
    assert cfg.data_root == '/set/coco/'
    dataset = cfg.train_dataloader.dataset.dataset
    assert dataset.data_root == '/set/coco/'
    assert dataset.ann_file == 'annotations/train.json'
    assert cfg.val_evaluator[0].ann_file == '/set/coco/annotations/val.json'
    assert cfg.val_evaluator[1].ann_file == 'data/coco_panoptic/val.json'  # only a longer name
    assert dataset.pipeline[1].scale == (1333, 800)


def test_data_root_replaces_one_root_in_two_spellings(cfg):
    cfg.pop('data_root')
    cfg.val_dataloader = dict(dataset=dict(data_root='data/coco'))
    edits.set_data_root(cfg, '/set')
    assert cfg.train_dataloader.dataset.dataset.data_root == '/set/'
    assert cfg.val_dataloader.dataset.data_root == '/set/'


def test_data_root_cannot_replace_several_roots(cfg):
    cfg.pop('data_root')
    cfg.val_dataloader = dict(dataset=dict(data_root='data/other'))
    message = 'replaces one root, but this config has data/coco, data/oth'
    with pytest.raises(UserError, match=message):
        edits.set_data_root(cfg, '/set')


@pytest.mark.parametrize('launcher', ['none', 'pytorch'])
def test_sync_bn_becomes_bn_without_gpus(cfg, launcher, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg.launcher = launcher
    edits.revert_sync_bn(cfg)
    assert cfg.model.backbone.norm_cfg.type == 'BN'
    assert cfg.model.neck[0].norm_cfg == dict(type='BN', requires_grad=True)
    assert cfg.model.head.norm_cfg == dict(type='GN', num_groups=32)


def test_sync_bn_is_kept_on_several_gpus(cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg.launcher = 'pytorch'
    edits.revert_sync_bn(cfg)
    assert cfg.model.backbone.norm_cfg.type == 'SyncBN'


@pytest.mark.parametrize(
    ('given', 'names'),
    [(None, []), (dict(imports='a.b'), ['a.b']), (dict(imports=['a', 'mmcnnmod']), ['a'])],
)
def test_package_is_added_to_custom_imports(cfg, given, names):
    cfg.custom_imports = given
    edits.add_custom_import(cfg)
    assert sorted(cfg.custom_imports.imports) == sorted([*names, 'mmcnnmod'])


def test_new_style_config_can_be_changed_and_dumped(tmp_path):
    path = tmp_path / 'new_style.py'
    path.write_text(
        'from torch.nn import SyncBatchNorm\n'
        'from mmengine.optim import OptimWrapper\n'
        "default_scope = 'mmseg'\n"
        'model = dict(backbone=dict(norm_cfg=dict(type=SyncBatchNorm)))\n'
        'optim_wrapper = dict(type=OptimWrapper)\n'
    )
    pytest.importorskip('mmseg')
    cfg = edits.load_config(train_parser().parse_args([str(path)]))
    assert edits.revert_sync_bn(cfg) is not None
    use_mixed_precision(cfg)
    cfg.dump(tmp_path / 'dumped.py')
    again = Config.fromfile(tmp_path / 'dumped.py')
    assert again.model.backbone.norm_cfg.type == 'BN'
    assert again.optim_wrapper.type == 'AmpOptimWrapper'


@pytest.mark.parametrize('workers', [0, 2])
def test_loader_defaults_of_mmpretrain(cfg, workers):
    cfg.default_scope = 'mmpretrain'
    cfg.train_dataloader.num_workers = workers
    options = argparse.Namespace(no_pin_memory=True, no_persistent_workers=False)
    edits.set_loader_defaults(cfg, options)
    loader = cfg.train_dataloader
    assert loader.collate_fn.type == 'default_collate'
    assert loader.persistent_workers is (workers > 0)
    assert loader.pin_memory is False


def test_local_paths_of_a_dataset(cfg):
    datasets = list(innermost_datasets(cfg.train_dataloader))
    assert [dataset.type for dataset in datasets] == ['CocoDataset']
    assert [str(path) for path in data_paths(datasets[0])] == [
        'data/coco',
        'data/coco/annotations/train.json',
        'data/coco/train2017',
    ]
    datasets[0].backend_args = dict(backend='petrel')
    assert data_paths(datasets[0]) == []
    assert data_paths(dict(type='CIFAR10', data_root='data/cifar10')) == []


def test_dumped_config_needs_no_mod_option(tmp_path, capsys):
    path = tmp_path / 'dense.py'
    path.write_text(
        "default_scope = 'mmseg'\n"
        "model = dict(pretrained='open-mmlab://resnet50_v1c',\n"
        "    backbone=dict(type='ResNetV1c', depth=50))\n"
    )
    pytest.importorskip('mmseg')
    options = [str(path), '--mod', 'depth=75', 'c=32', 'mod_stages=[1,2]']
    cfg = edits.load_config(train_parser().parse_args(options))
    assert cfg.model.backbone == dict(
        type='ResNetV1cMoD',
        depth=75,
        c=32,
        mod_stages=[1, 2],
        init_cfg=dict(type='DensePretrained', checkpoint='open-mmlab://resnet50_v1c'),
    )
    assert 'model.backbone.depth: 50 -> 75' in capsys.readouterr().out.splitlines()
    cfg.dump(tmp_path / 'dumped.py')
    again = edits.load_config(train_parser().parse_args([str(tmp_path / 'dumped.py')]))
    assert again.model == cfg.model
    assert again.custom_imports.imports == ['mmcnnmod']


@pytest.mark.parametrize(
    ('options', 'word'),
    [
        (['--mod'], 'config .*: no backbone to swap: model.backbone is ResNeXt'),
        (['--mod', 'cfg=1'], "'cfg' is not an MoD option; choose from depth"),
    ],
)
def test_errors_of_mod_name_the_config(options, word, tmp_path):
    path = tmp_path / 'dense.py'
    path.write_text("default_scope = 'mmdet'\nmodel = dict(backbone=dict(type='ResNeXt'))\n")
    pytest.importorskip('mmdet')
    with pytest.raises(UserError, match=word):
        edits.load_config(train_parser().parse_args([str(path), *options]))


@pytest.mark.parametrize('variable', ['RANK', 'SLURM_PROCID'])
def test_only_first_process_prints_changes_of_mod(variable, tmp_path, capsys, monkeypatch):
    path = tmp_path / 'dense.py'
    path.write_text("default_scope = 'mmdet'\nmodel = dict(backbone=dict(type='ResNet'))\n")
    pytest.importorskip('mmdet')
    for rank, lines in (('0', 1), ('1', 0)):
        monkeypatch.setenv(variable, rank)
        edits.load_config(train_parser().parse_args([str(path), '--mod']))
        assert len(capsys.readouterr().out.splitlines()) == lines


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('model = 3', 'model must be a dict, got 3'),
        ('train_dataloader = []', r'train_dataloader must be a dict, got \[\]'),
        ('default_scope = 5', 'default_scope must be a str, got 5'),
        ('exit()', 'SystemExit'),
    ],
)
def test_settings_of_wrong_type(line, words, tmp_path):
    path = tmp_path / 'wrong.py'
    path.write_text(f"default_scope = 'mmseg'\n{line}\n")
    with pytest.raises(UserError, match=f'^config [^\n]*wrong.py: {words}'):
        edits.read_config(path)


@pytest.mark.parametrize('option', ['--mod', '--cfg-options'])
@pytest.mark.parametrize(
    ('value', 'words'),
    [
        ('configs/fcn.py', 'takes KEY=VALUE only, got configs/fcn.py; put it before --'),
        ('c=[(1,2]', 'Imbalanced brackets exist in'),
    ],
)
def test_options_that_are_not_pairs(option, value, words, capsys):
    with pytest.raises(SystemExit, match='2'):
        train_parser().parse_args(['config.py', option, value])
    last = capsys.readouterr().err.splitlines()[-1]
    assert f'error: {option}' in last
    assert words in last


def test_cfg_options_for_a_key_below_a_number(tmp_path):
    path = tmp_path / 'dense.py'
    path.write_text("default_scope = 'mmseg'\nmodel = dict(backbone=dict(depth=50))\n")
    with pytest.raises(UserError, match=r"--cfg-options 'model\.backbone\.depth\.c': "):
        edits.read_config(path, {'model.backbone.depth.c': 3})
