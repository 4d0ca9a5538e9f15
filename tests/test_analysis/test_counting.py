"""Counting of parameters and MACs, and the image size for it."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmcnnmod.analysis.counting import (
    Count,
    count_by_mmengine,
    count_by_ptflops,
    count_config,
    count_params,
    input_size,
    read_counts,
)
from mmcnnmod.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CONV = 8 * 8 * 4 * 3 * 9  # on an 8x8 image, 3x3 from 3 to 4 channels
MAP = 8 * 8 * 4


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.eval()


def test_ptflops_counts_a_relu_module_twice():
    """The numbers of the paper's Tables 1, 2 and 7 depend on it."""
    macs, relu_macs = count_by_ptflops(Net(), (8, 8))
    assert relu_macs == MAP
    assert macs == CONV + 2 * MAP + 2 * relu_macs


def test_mmengine_counts_no_relu():
    assert count_by_mmengine(Net(), (8, 8)) == CONV + 2 * MAP


@pytest.mark.smoke
def test_count_config_agrees_with_the_paper(capsys):
    """Table 9: 4.95 M and 255 MMAC."""
    pytest.importorskip('mmpretrain')
    count = count_config(CONFIGS / 'resnet18-mod_cifar10.py')
    assert (count.size, count.counter) == ((32, 32), 'ptflops')
    assert f'{count.params / 1e6:.2f}' == '4.95'
    assert f'{count.macs / 1e6:.0f}' == '255'
    assert capsys.readouterr().out == ''


def test_auxiliary_head_is_not_counted():
    model = nn.Module()
    model.backbone, model.auxiliary_head = nn.Linear(2, 3), nn.Linear(5, 7)
    assert count_params(model) == 2 * 3 + 3


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        ('resnet50_in1k', (224, 224)),
        ('resnet18_cifar100', (32, 32)),
        ('fcn_r50_cityscapes', (512, 1024)),
        ('faster-rcnn_r50_fpn_voc0712', (600, 1000)),
    ],
)
def test_input_size(name, size):
    scope = {'f': 'mmdet', 'r': 'mmpretrain'}[name[0]] if name[:3] != 'fcn' else 'mmseg'
    pytest.importorskip(scope)
    assert input_size(Config.fromfile(CONFIGS / f'{name}.py')) == size


def test_config_without_image_size_is_an_error():
    dataset = dict(type='CustomDataset', pipeline=[dict(type='PackInputs')])
    cfg = Config(dict(default_scope='mmpretrain', test_dataloader=dict(dataset=dataset)))
    with pytest.raises(UserError, match='no image size'):
        input_size(cfg)


def test_model_that_ptflops_cannot_run_is_an_error():
    with pytest.raises(UserError, match='could not run the model on a 8x8 image'):
        count_by_ptflops(nn.Sequential(nn.Conv2d(5, 4, 3)), (8, 8))


def test_counting_restores_torch_functions():
    relu = torch.nn.functional.relu
    count_by_ptflops(Net(), (8, 8))
    assert torch.nn.functional.relu is relu


def test_read_counts(tmp_path):
    path = tmp_path / 'counts.json'
    node = dict(params=1, macs=2, size=[3, 4], counter='ptflops', relu_macs=0)
    path.write_text(json.dumps({'counts': {'a': node}}))
    assert read_counts(path) == {'a': Count(1, 2, (3, 4), 'ptflops', 0)}
    del node['macs']
    path.write_text(json.dumps({'counts': {'a': node}}))
    with pytest.raises(UserError, match="counts of a has no 'macs'"):
        read_counts(path)
