"""The changes that training makes to a config for CPUs and --pretrained."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmcnnmod.cli import preflight, train
from mmcnnmod.cli import test as testing
from mmcnnmod.cli.train import backbone_prefix, start_backbone_from
from mmcnnmod.errors import UserError

DENSE = ['layer1.0.conv1.weight']
INVERTED = ['features.1.conv.0.0.weight']
MOD = [*DENSE, 'layer1.1.conv_block.0.conv.weight']
CONFIG = Path(__file__).resolve().parents[2] / 'configs/fcn_r18-mod_street-scenes.py'


class Built(BaseException):
    """Raised instead of building the runner."""


@pytest.mark.parametrize(('program', 'files'), [(train, []), (testing, ['a.pth'])])
def test_runner_gets_the_config_that_was_checked(monkeypatch, program, files):
    """With BN for SyncBN, and a model wrapper that uses no GPU."""
    pytest.importorskip('mmseg')
    checked = []

    def from_cfg(cfg):
        raise Built(cfg.pretty_text)

    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda backend: None)
    monkeypatch.setattr(preflight, 'check', lambda cfg, *_, **__: checked.append(cfg.pretty_text))
    monkeypatch.setattr(Runner, 'from_cfg', from_cfg)
    options = ['--cfg-options', 'model.backbone.norm_cfg.type=SyncBN']
    with pytest.raises(Built) as built:
        program.main([str(CONFIG), *files, '--launcher', 'pytorch', *options])
    assert checked == [str(built.value)]
    assert 'SyncBN' not in checked[0]
    assert 'device_ids=None' in checked[0]


@pytest.mark.parametrize(
    ('backbone', 'names', 'prefix', 'expected'),
    [
        ('ResNetMoD', DENSE, '', dict(type='DensePretrained')),
        ('ResNetMoD', DENSE, 'backbone.', dict(type='DensePretrained')),
        ('ResNetMoD', MOD, '', dict(type='Pretrained')),
        ('ResNetMoD', MOD, 'backbone.', dict(type='Pretrained', prefix='backbone.')),
        ('ResNet', DENSE, 'backbone.', dict(type='Pretrained', prefix='backbone.')),
        ('MobileNetV2MoD', INVERTED, '', dict(type='DensePretrained')),
        ('MobileNetV2', INVERTED, 'a.', dict(type='Pretrained', prefix='a.')),
    ],
)
def test_pretrained_sets_the_init_cfg_of_the_backbone(backbone, names, prefix, expected, tmp_path):
    pytest.importorskip('mmpretrain')
    path = str(tmp_path / 'a.pth')
    torch.save({prefix + name: torch.ones(1) for name in names}, path)
    model = dict(pretrained='x', backbone=dict(type=backbone, pretrained='y'))
    cfg = Config(dict(default_scope='mmpretrain', model=model))
    start_backbone_from(cfg, path)
    init_cfg = dict(expected, checkpoint=path)
    assert cfg.model.to_dict() == dict(backbone=dict(type=backbone, init_cfg=init_cfg))


@pytest.mark.parametrize('head', ['decode_head.features.0.weight', 'neck.in_features.0.weight'])
def test_keys_of_a_head_like_those_of_a_vgg_are_not_a_backbone(head):
    assert backbone_prefix(['backbone.patch_embed.weight', head], 'a.pth') == 'backbone.'
    body = 'backbone.body.layer1.0.conv1.weight'
    assert backbone_prefix([body, head], 'a.pth') == 'backbone.body.'


def test_pretrained_needs_a_backbone():
    cfg = Config(dict(default_scope='mmdet', model=dict(detector=dict())))
    with pytest.raises(UserError, match=r'--pretrained is for model\.backbone'):
        start_backbone_from(cfg, 'a.pth')
