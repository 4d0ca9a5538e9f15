"""``init_cfg=dict(type='DensePretrained')`` in the ResNets of every toolbox."""

import importlib
import logging

import pytest
import torch
import torchvision
from mmengine.registry import DefaultScope
from torch import nn

from mmcnnmod.checkpoints import DensePretrained
from mmcnnmod.errors import UserError
from mmcnnmod.layers import MoDBlock

from ..utils.dense_networks import SMALL, WholeModel, add_prefix, init_cfg, randomized


@pytest.fixture
def start_resnet(backbones, tmp_path):
    """Build a ResNetMoD that starts from the given weights."""

    def start(state_dict, depth=50, prefix=None, **options):
        cfg = dict(init_cfg(tmp_path / 'a.pth', state_dict), prefix=prefix)
        torch.manual_seed(0)
        network = backbones.ResNetMoD(**{**SMALL, 'depth': depth, 'init_cfg': cfg, **options})
        network.init_weights()
        return network

    return start


@pytest.fixture
def log_lines(monkeypatch):
    """The lines that DensePretrained logs."""
    lines = []
    dense = importlib.import_module('mmcnnmod.checkpoints.dense')
    monkeypatch.setattr(dense, 'print_log', lambda line, **_: lines.append(line))
    return lines


@pytest.mark.parametrize('norm_eval', [True, False])
@pytest.mark.parametrize(('depth', 'seed'), [(18, 0), (50, 1), (75, 2)])
def test_every_mod_parameter_learns_in_frozen_stages(
    backbones, start_resnet, depth, seed, norm_eval
):
    """It gets a gradient in the first two steps, also with mmdetection's settings."""
    dense = randomized(backbones.ResNet(depth=min(depth, 50), **SMALL), seed)
    network = start_resnet(
        dense.state_dict(),
        depth,
        norm_eval=norm_eval,
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=not norm_eval),
    )
    blocks = {n: m for n, m in network.named_modules() if isinstance(m, MoDBlock)}
    assert any(name.startswith('layer1') for name in blocks)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    learnt = set()
    for _ in range(2):
        optimizer.zero_grad()
        out = network(torch.rand(2, 3, 64, 64))
        sum((o * torch.randn_like(o)).mean() for o in out).backward()
        learnt |= {
            f'{n}.{p}'
            for n, block in blocks.items()
            for p, parameter in block.named_parameters()
            if parameter.grad is not None and parameter.grad.any()
        }
        optimizer.step()
    assert learnt == {
        f'{n}.{p}' for n, block in blocks.items() for p, _ in block.named_parameters()
    }
    # Weights from the checkpoint stay frozen, and with norm_eval all norms keep their statistics.
    assert torch.equal(network.layer1[0].conv1.weight, dense.layer1[0].conv1.weight)
    assert not any(p.requires_grad for p in network.layer1[0].parameters())
    norms = [m for m in blocks['layer1.1'].modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.training is not norm_eval for norm in norms)


@pytest.mark.parametrize(('depth', 'tensors'), [(18, 60), (50, 160)])
def test_torchvision_weights_are_logged(start_resnet, log_lines, depth, tensors):
    dense = getattr(torchvision.models, f'resnet{depth}')()
    network = start_resnet(dense.state_dict(), depth, base_channels=64, stem_channels=64)
    assert torch.equal(network.layer4[0].conv2.weight, dense.layer4[0].conv2.weight)
    # mmdetection freezes norms by default.
    hints = ['ReestimateNormsHook' in line for line in log_lines]
    assert hints == [False] + [True] * network.norm_eval
    assert f'{tensors} tensors of a ResNet-{depth}' in log_lines[0]
    blocks = '0 | 0 | 0 | 0' if depth == 18 else '0 1 | 0 1 | 0 1 2 | 0 1'
    assert f"{blocks} ('first')" in log_lines[0]
    assert f'{4 if depth == 18 else 7} MoD blocks are fresh' in log_lines[0]


@pytest.mark.parametrize('kind', ['name', 'class', 'path', 'list'])
def test_initialiser_is_found_in_every_scope_and_runs_last(toolbox, backbones, tmp_path, kind):
    """Other initialisations, such as zero_init_residual, do not overwrite it."""
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    dense = randomized(backbones.ResNet(depth=50, **SMALL))
    start = init_cfg(tmp_path / 'a.pth', dense.state_dict())
    if kind == 'class':
        start['type'] = DensePretrained
    if kind == 'path':  # new-style configs turn a class into its path
        start['type'] = 'mmcnnmod.checkpoints.dense.DensePretrained'
    if kind == 'list':
        start = [start, dict(type='Constant', val=3, layer='BatchNorm2d')]
    network = backbones.ResNetMoD(depth=50, init_cfg=start, zero_init_residual=True, **SMALL)
    given = network.init_cfg
    with DefaultScope.overwrite_default_scope(toolbox):
        WholeModel(network).init_weights()
    assert network.is_init
    assert network.init_cfg == given
    assert torch.equal(network.layer1[0].norm3.weight, dense.layer1[0].norm3.weight)
    expected = 0.03 if kind == 'list' else 0.01
    torch.testing.assert_close(
        network.layer1[1].conv_block[-1].norm.weight, torch.full((16,), expected)[:4]
    )


@pytest.mark.parametrize('toolbox', ['mmdet'], indirect=True)
def test_deformable_convolutions_get_dense_weights(backbones, start_resnet):
    """Only their offsets, which no dense network has, are initialised."""
    dense = randomized(backbones.ResNet(depth=50, **SMALL))
    network = start_resnet(
        dense.state_dict(),
        dcn=dict(type='DCNv2', deform_groups=1),
        stage_with_dcn=(False, True, True, True),
    )
    assert torch.equal(network.layer2[0].conv2.weight, dense.layer2[0].conv2.weight)
    assert not network.layer2[0].conv2.conv_offset.weight.any()


@pytest.mark.parametrize('toolbox', ['mmseg', 'mmdet'])
def test_toolbox_raises_an_error_for_pretrained_beside_it(toolbox):
    models = pytest.importorskip(f'mmcnnmod.toolboxes.{toolbox}')
    with pytest.raises(AssertionError, match='init_cfg and pretrained'):
        models.ResNetMoD(
            depth=18, pretrained='a.pth', init_cfg=dict(type='DensePretrained', checkpoint='b.pth')
        )


def test_stem_of_another_shape_keeps_its_random_weights(backbones, start_resnet, log_lines):
    dense = randomized(backbones.ResNet(depth=18, **SMALL))
    network = start_resnet(dense.state_dict(), 18, in_channels=4)
    assert torch.equal(network.layer4[0].conv2.weight, dense.layer4[0].conv2.weight)
    assert log_lines[0].endswith('and 1 tensors such as conv1.weight')


def test_mod_network_may_have_fewer_stages(backbones, start_resnet, log_lines):
    """For example in mmdetection's C4 detectors."""
    start_resnet(
        randomized(backbones.ResNet(depth=50, **SMALL)).state_dict(),
        num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,),
    )  # fmt: skip
    assert "0 1 | 0 1 | 0 1 2 ('first'); 6 MoD blocks are fresh" in log_lines[0]


@pytest.mark.parametrize('prefix', [None, 'teacher.', 'teacher'])
def test_prefix_selects_one_of_several_networks(backbones, start_resnet, prefix):
    student, teacher = (backbones.ResNet(depth=50, **SMALL).state_dict() for _ in range(2))
    both = add_prefix('backbone.', student) | add_prefix('teacher.', teacher)
    network = start_resnet(both, prefix=prefix)
    expected = teacher if prefix else student
    assert torch.equal(network.conv1.weight, expected['conv1.weight'])


def test_error_names_the_file(start_resnet):
    with pytest.raises(UserError, match=r'^DensePretrained .*a\.pth: it holds no ResNet[^\n]*$'):
        start_resnet({'a': torch.zeros(1)})
