"""The changes that training makes to a config: all before it is checked; and --pretrained."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmcnnmod.cli import train
from mmcnnmod.cli.train import backbone_prefix, start_backbone_from
from mmcnnmod.errors import UserError

DENSE = ['layer1.0.conv1.weight']
INVERTED = ['features.1.conv.0.0.weight']
MOD = [*DENSE, 'layer1.1.conv_block.0.conv.weight']
CONFIG = Path(__file__).resolve().parents[2] / 'configs/fcn_r18-mod_street-scenes.py'


class Built(BaseException):
    """The runner would be built now."""


def test_the_runner_gets_the_config_that_was_checked(monkeypatch):
    """With SyncBN reverted, and the wrapper of a model in several processes on CPUs."""
    pytest.importorskip('mmseg')
    seen = []

    def from_cfg(cfg):
        seen.append(cfg.pretty_text)
        raise Built

    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda backend: None)
    monkeypatch.setattr(train, 'check', lambda cfg, args: seen.append(cfg.pretty_text))
    monkeypatch.setattr(Runner, 'from_cfg', from_cfg)
    with pytest.raises(Built):
        train.main([str(CONFIG), '--launcher', 'pytorch'])
    checked, built = seen
    assert checked == built
    assert 'SyncBN' in CONFIG.read_text() + (CONFIG.parent / '_base_/fcn.py').read_text()
    assert 'SyncBN' not in checked
    assert 'device_ids=None' in checked


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
def test_the_backbone_starts_from_a_checkpoint(backbone, names, prefix, expected, tmp_path):
    pytest.importorskip('mmpretrain')
    path = str(tmp_path / 'a.pth')
    torch.save({prefix + name: torch.ones(1) for name in names}, path)
    model = dict(pretrained='x', backbone=dict(type=backbone, pretrained='y'))
    cfg = Config(dict(default_scope='mmpretrain', model=model))
    start_backbone_from(cfg, path)
    init_cfg = dict(expected, checkpoint=path)
    assert cfg.model.to_dict() == dict(backbone=dict(type=backbone, init_cfg=init_cfg))


@pytest.mark.parametrize('head', ['decode_head.features.0.weight', 'neck.in_features.0.weight'])
def test_a_head_is_not_taken_for_the_backbone(head):
    """Its names may be those of a VGG."""
    assert backbone_prefix(['backbone.patch_embed.weight', head], 'a.pth') == 'backbone.'
    body = 'backbone.body.layer1.0.conv1.weight'
    assert backbone_prefix([body, head], 'a.pth') == 'backbone.body.'


def test_a_model_without_a_backbone():
    cfg = Config(dict(default_scope='mmdet', model=dict(detector=dict())))
    with pytest.raises(UserError, match=r'--pretrained is for model\.backbone'):
        start_backbone_from(cfg, 'a.pth')
