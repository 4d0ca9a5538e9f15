"""The behaviour of every family: shapes, placement, the toolbox's options, initialisation."""

import importlib
from itertools import pairwise

import pytest
import torch
from mmcv.cnn import ConvWS2d
from torch import nn

from mmcnnmod.layers import MoDBlock

from ..utils.networks import (
    BN,
    CASES,
    CONVNEXT,
    Family,
    assert_every_mod_parameter_learns,
    evaluating,
    mod_blocks,
)


@pytest.fixture(params=CASES)
def family(request):
    return Family(*CASES[request.param])


def stages(network):
    """The blocks of every stage."""
    return [[network.get_submodule(name) for name in names] for names in network.blocks_of_stages()]


# Tables 2 and 9: million parameters, and the widths of the classifier's layers.
PAPER = {
    ('ResNetMoD_CIFAR', 18): (4.95, (512, 10)),
    ('MobileNetV2MoD', 'standard'): (2.94, (1280, 1000)),
    ('MobileNetV2MoD', 'large'): (3.34, (1280, 1000)),
    ('VGGMoD', 16): (9.83, (512, 512, 512, 10)),
    ('VGGMoD', 19): (9.96, (512, 512, 512, 100)),
}


@pytest.mark.smoke
@pytest.mark.parametrize(('name', 'size'), PAPER)
def test_parameters_match_the_paper(name, size):
    toolbox = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    settings = dict(arch=size) if name == 'MobileNetV2MoD' else dict(depth=size, norm_cfg=BN)
    params, widths = PAPER[name, size]
    head = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
    network = nn.ModuleList([getattr(toolbox, name)(**settings), head])
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == params


@pytest.mark.smoke
def test_output_shapes_match_the_dense_network(family):
    if family.settings.get('arch') == 'large':
        pytest.skip('no toolbox has the wider network of Table 6')
    indices = dict(out_indices=(0, 1, 2, 3))
    networks = family.build(**indices), family.dense(**family.settings, **indices)
    with torch.no_grad():
        mod, dense = (evaluating(network)(torch.rand(2, 3, 65, 96)) for network in networks)
    assert [tuple(out.shape) for out in mod] == [tuple(out.shape) for out in dense]


def test_widths_of_the_large_mobilenet_match_table_6():
    network = Family(*CASES['mobilenet-v2-l']).build(widen_factor=1.0, out_indices=range(7))
    with torch.no_grad():
        widths = [out.shape[1] for out in evaluating(network)(torch.rand(1, 3, 32, 32))]
    assert widths == [16, 32, 64, 96, 128, 160, 320]


def test_every_second_block_is_mod(family):
    for blocks in stages(family.build()):
        kinds = [isinstance(block, MoDBlock) for block in blocks]
        assert kinds == [i % 2 == 1 for i in range(len(blocks))]


def test_every_parameter_of_every_mod_block_learns(family):
    torch.manual_seed(0)
    assert_every_mod_parameter_learns(family.build())


def test_frozen_stages(family):
    """Blocks are frozen at construction, and again whenever ``train()`` is called."""
    network = family.build(frozen_stages=2)
    for _ in range(2):
        blocks = mod_blocks(network)
        frozen = [b for b in blocks if not any(p.requires_grad for p in b.parameters())]
        assert frozen == blocks[: len(frozen)]
        assert 1 <= len(frozen) < len(blocks)
        network.train()
        assert not any(module.training for block in frozen for module in block.modules())
        assert all(block.training for block in blocks[len(frozen) :])


def test_norm_eval(family):
    if not family.takes('norm_eval'):
        pytest.skip('this family has no norm_eval')
    network = family.build(norm_eval=True, norm_cfg=BN)
    network.train()
    norms = [m for b in mod_blocks(network) for m in b.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert mod_blocks(network)[0].training


def test_with_cp_changes_no_gradient(family):
    if not family.takes('with_cp'):
        pytest.skip('this family has no with_cp')
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        network = family.build(with_cp=with_cp)
        assert all(block.with_cp is with_cp for block in mod_blocks(network))
        network.train()
        torch.manual_seed(1)
        network(torch.rand(2, 3, 64, 64))[-1].square().sum().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_initialisation_from_a_checkpoint(family, tmp_path):
    source = family.build()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    network = family.build(init_cfg=init_cfg)
    network.init_weights()
    torch.testing.assert_close(network.state_dict(), source.state_dict(), rtol=0, atol=0)

    foreign = {f'{name}.other': tensor for name, tensor in source.state_dict().items()}
    torch.save(foreign, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='of another network: 0 of'):
        family.build(init_cfg=init_cfg).init_weights()


@pytest.mark.smoke
def test_compiles_as_one_graph_and_channels_last(family):
    torch.manual_seed(0)
    network = evaluating(family.build())
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(x)[-1]
        torch._dynamo.reset()
        compiled = torch.compile(network, fullgraph=True, backend='aot_eager')
        torch.testing.assert_close(compiled(x)[-1], expected)
        network.to(memory_format=torch.channels_last)
        out = network(x.to(memory_format=torch.channels_last))[-1]
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_too_large_c_names_the_stage(family):
    with pytest.raises(ValueError, match=r'MoD\w* stage \d \(width \d+, c=4096\): c=4096 is'):
        family.build(c=4096)


@pytest.mark.parametrize(
    ('case', 'options', 'words'),
    [
        ('mobilenet-v2', dict(arch='small'), "unknown arch 'small'; choose from standard, large"),
        ('vgg', dict(depth=12), 'unknown depth 12; choose from 11, 13, 16, 19'),
        ('vgg', dict(depth=11, mod_stages=(1,)), 'stage 1 was chosen, but none of its 1 block'),
        ('convnext', dict(arch='giant'), "unknown arch 'giant'; choose from atto"),
        ('convnext', dict(mod_stages=(4,)), 'unknown stage 4; the network has stages 0 to 3'),
    ],
)
def test_bad_settings(case, options, words):
    with pytest.raises(ValueError, match=r'^[^\n]*$') as error:
        Family(*CASES[case]).build(**options)
    assert words in str(error.value)


def test_hidden_width_of_inverted_residuals():
    """It is floor(t * C / c) = floor(6 * 24 / 16) = 9; t * k would be 6."""
    network = Family(*CASES['mobilenet-v2']).build(widen_factor=1.0)
    convs = [module.conv for module in network.layer2[1].conv_block]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(1, 9), (9, 9), (9, 1)]


def test_dilation_applies_to_mod_blocks():
    """mmseg's MobileNetV2 dilates only the first block of a stage."""
    network = Family(*CASES['mobilenet-v2-mmseg']).build(dilations=(1, 1, 1, 2, 2, 4, 4))
    assert network.layer4[0].conv[1].conv.dilation == (2, 2)
    assert network.layer4[1].conv_block[1].conv.dilation == (1, 1)
    vgg = Family(*CASES['vgg']).build(dilations=(1, 1, 1, 2, 2))
    assert [block.conv_block[0].conv.dilation[0] for block in mod_blocks(vgg)] == [1, 1, 1, 2, 2]


def test_convolutions_of_vgg_have_a_bias():
    for block in mod_blocks(Family(*CASES['vgg-bn']).build()):
        assert block.conv_block[0].conv.bias is not None


def test_inverted_residual_is_the_dense_block_without_shortcut():
    mobilenet_v2 = pytest.importorskip('mmpretrain.models.backbones.mobilenet_v2')
    block = mod_blocks(Family(*CASES['mobilenet-v2']).build(widen_factor=1.0))[-1]
    dense = mobilenet_v2.InvertedResidual(block.k, block.k, 1, expand_ratio=6)
    dense.conv.load_state_dict(block.conv_block.state_dict())
    x = torch.rand(2, block.k, 5, 5)
    torch.testing.assert_close(block.conv_block(x), dense(x) - x)


def test_convnext_block_is_the_dense_block_without_shortcut():
    convnext = pytest.importorskip('mmpretrain.models.backbones.convnext')
    block = mod_blocks(Family(*CASES['convnext']).build(layer_scale_init_value=0.5))[-1]
    dense = convnext.ConvNeXtBlock(block.k, layer_scale_init_value=0.5, linear_pw_conv=False)
    names = [name for name, _ in dense.named_parameters() if name != 'gamma']
    weights = dict(block.conv_block.named_parameters())
    assert weights.pop('5.weight').tolist() == [0.5] * block.k
    dense.load_state_dict(dict(zip(names, weights.values(), strict=True)), strict=False)
    x = torch.rand(2, block.k, 9, 9)
    torch.testing.assert_close(block.conv_block(x), dense(x) - x)


def test_no_layer_norm_over_one_or_two_channels():
    network = Family(*CASES['convnext']).build()
    norms = {block.k: type(block.conv_block[1]).__name__ for block in mod_blocks(network)}
    assert norms == {1: 'GroupNorm', 2: 'GroupNorm', 4: 'LayerNorm2d', 8: 'LayerNorm2d'}


@pytest.mark.parametrize('case', ['resnet', 'convnext'])
def test_stochastic_depth_applies_to_mod_blocks(case):
    network = Family(*CASES[case]).build(drop_path_rate=0.5)
    rates = [block.drop_path.drop_prob for block in mod_blocks(network)]
    assert rates == sorted(rates)
    assert rates[-1] == 0.5


@pytest.mark.parametrize('toolbox', ['mmseg', 'mmdet'])
def test_other_toolboxes_can_use_mmpretrains_families(toolbox):
    pytest.importorskip('mmpretrain')
    pytest.importorskip(toolbox)
    registry = importlib.import_module(f'{toolbox}.registry').MODELS
    options = dict(arch=CONVNEXT, out_indices=(0, 1, 2, 3), gap_before_final_norm=False)
    network = registry.build(dict(type='mmpretrain.ConvNeXtMoD', **options))
    assert [out.shape[1] for out in network(torch.rand(1, 3, 64, 64))] == CONVNEXT['channels']


LAYER_CLASSES = {
    'MobileNetV2MoD': dict(
        act_cfg=dict(type=nn.ReLU6),
        norm_cfg=dict(type=nn.BatchNorm2d),
        conv_cfg=dict(type=nn.Conv2d),
    ),
    'VGGMoD': dict(depth=16, act_cfg=dict(type=nn.ReLU), norm_cfg=dict(type=nn.BatchNorm2d)),
    'ConvNeXtMoD': dict(act_cfg=dict(type=nn.GELU)),
    'ResNetMoD': dict(
        depth=50, conv_cfg=dict(type=ConvWS2d), norm_cfg=dict(type=nn.GroupNorm, num_groups=32)
    ),
}


@pytest.mark.parametrize('name', LAYER_CLASSES)
def test_layer_types_may_be_classes(name):
    models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    torch.manual_seed(0)
    network = evaluating(getattr(models, name)(**LAYER_CLASSES[name]))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(x)[-1]
        network.switch_to_deploy()
        torch.testing.assert_close(network(x)[-1], expected, rtol=1e-3, atol=1e-4)
