"""ResNet-MoD in each toolbox: the paper's networks and the toolboxes' arguments."""

import importlib

import pytest
import torch
from torch import nn

from mmcnnmod.layers import MoDBlock, RandomSelector

from ..utils.networks import assert_every_mod_parameter_learns, evaluating, mod_blocks

# Tables 1 and 7: million parameters with a classifier for 1000 classes; blocks of Table 5.
PAPER = {
    18: (5.46, (2, 2, 2, 2)),
    26: (11.40, (2, 2, 3, 4)),
    34: (12.93, (3, 4, 6, 3)),
    42: (17.72, (3, 3, 6, 6)),
    50: (18.11, (3, 4, 6, 3)),
    75: (23.10, (3, 4, 14, 3)),
    86: (25.60, (3, 4, 18, 3)),
    101: (29.21, (3, 4, 23, 3)),
    152: (37.46, (3, 8, 36, 3)),
}
SMALL = dict(base_channels=16, stem_channels=16)


def positions(network):
    """(stage, block) of every MoD block."""
    return [
        (stage, i)
        for stage, name in enumerate(network.res_layers)
        for i, block in enumerate(getattr(network, name))
        if isinstance(block, MoDBlock)
    ]


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.smoke
@pytest.mark.parametrize('depth', PAPER)
def test_parameters_and_blocks_match_the_paper(backbones, depth):
    network = backbones.ResNetMoD(depth=depth)
    params, blocks = PAPER[depth]
    head = nn.Linear(512 if depth < 50 else 2048, 1000)
    assert round(millions(network) + millions(head), 2) == params
    assert tuple(len(getattr(network, name)) for name in network.res_layers) == blocks
    assert positions(network) == [(s, i) for s, n in enumerate(blocks) for i in range(1, n, 2)]


def test_parameters_of_random_selection_match_the_paper(backbones):
    network = backbones.ResNetMoD(depth=50, selection='random')
    assert round(millions(network) + millions(nn.Linear(2048, 1000)), 2) == 17.11
    assert all(isinstance(block.selector, RandomSelector) for block in mod_blocks(network))


def test_widths_of_mod_blocks(backbones):
    network = backbones.ResNetMoD(depth=50)
    assert [block.k for block in mod_blocks(network)] == [4, 8, 8, 16, 16, 16, 32]
    convs = [module.conv for module in network.layer4[1].conv_block]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(32, 8), (8, 8), (8, 32)]


@pytest.mark.smoke
@pytest.mark.parametrize('depth', [26, 75])
def test_state_dicts_fit_all_toolboxes(depth):
    networks = [
        importlib.import_module(f'mmcnnmod.toolboxes.{name}').ResNetMoD(depth=depth)
        for name in ('mmpretrain', 'mmseg', 'mmdet')
        if importlib.util.find_spec(name)
    ]
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict(), strict=True)
        x = torch.rand(1, 3, 32, 32)
        with torch.no_grad():
            outs = [evaluating(module)(x)[-1] for module in (network, networks[0])]
        torch.testing.assert_close(*outs)


@pytest.mark.parametrize('zero_init_residual', [True, False])
@pytest.mark.parametrize('norm_eval', [True, False])
@pytest.mark.parametrize(('depth', 'seed'), [(18, 0), (18, 1), (26, 2), (50, 3), (50, 4), (75, 5)])
def test_every_parameter_of_every_mod_block_learns(
    backbones, zero_init_residual, norm_eval, depth, seed
):
    """In one of the first two steps.

    The first gradient of a norm of one channel that another norm follows is zero up to rounding.
    With norms in eval mode, a step can make a unit inactive, as in any dense network.
    """
    torch.manual_seed(seed)
    network = backbones.ResNetMoD(
        depth=depth, zero_init_residual=zero_init_residual, norm_eval=norm_eval
    )
    assert_every_mod_parameter_learns(network)


def test_dense_blocks_keep_zero_init_residual(backbones):
    network = backbones.ResNetMoD(depth=50, zero_init_residual=True, **SMALL)
    network.init_weights()
    assert not network.layer1[0].norm3.weight.any()
    assert network.layer1[1].conv_block[-1].norm.weight.all()


def test_default_c_follows_the_width(backbones):
    assert {block.c for block in mod_blocks(backbones.ResNetMoD(depth=18))} == {64}
    narrow = backbones.ResNetMoD(depth=18, base_channels=32)
    assert {block.c for block in mod_blocks(narrow)} == {32}
    assert {block.c for block in mod_blocks(backbones.ResNetMoD(depth=18, c=8))} == {8}


def test_options_of_mod_blocks(backbones):
    network = backbones.ResNetMoD(
        depth=50, c=4, r=8, position='last', fusion='replace', placement='every', mod_stages=(1, 3)
    )
    assert positions(network) == [(1, 1), (1, 2), (1, 3), (3, 1), (3, 2)]
    block = mod_blocks(network)[0]
    assert (block.c, block.k, block.selector.r) == (4, 128, 8)
    assert (block.fusion.position, block.fusion.mode) == ('last', 'replace')


def test_placement_in_every_block_includes_the_first_of_basic_blocks(backbones):
    """The first stage of a network of basic blocks keeps its width."""
    network = backbones.ResNetMoD(depth=18, placement='every', mod_stages=(0,))
    assert positions(network) == [(0, 0), (0, 1)]


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'r': 257}, ['stage 0', 'width 256', 'c=64', 'r=257']),
        ({'position': 'front'}, ['stage 0', 'front', 'first, last, original']),
        ({'placement': 'none'}, ['none', 'alternate, every']),
        ({'depth': 49}, ['unknown depth 49', '18, 26, 34, 42, 50, 75, 86, 101, 152']),
        ({'depth': [50]}, ['unknown depth [50]']),
    ],
)
def test_bad_settings(backbones, options, words):
    with pytest.raises(ValueError, match=r'^[^\n]*$') as error:
        backbones.ResNetMoD(**{'depth': 50, **options})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_frozen_stages(backbones):
    network = backbones.ResNetMoD(depth=18, frozen_stages=2, norm_eval=False, **SMALL)
    network.train()
    frozen = network.layer2[1]
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not any(module.training for module in frozen.modules())
    assert all(parameter.requires_grad for parameter in network.layer3[1].parameters())


@pytest.mark.parametrize('depth', [18, 50])
def test_dilation_applies_to_mod_blocks(backbones, depth):
    network = backbones.ResNetMoD(
        depth=depth, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), out_indices=(3,), **SMALL
    )
    dilations = {}
    for stage, i in positions(network):
        block = getattr(network, network.res_layers[stage])[i]
        convs = [module.conv for module in block.conv_block if module.conv.kernel_size == (3, 3)]
        dilations.setdefault(stage, convs[0].dilation)
    assert dilations == {0: (1, 1), 1: (1, 1), 2: (2, 2), 3: (4, 4)}
    assert evaluating(network)(torch.rand(1, 3, 32, 32))[0].shape[-2:] == (4, 4)


def test_norm_and_conv_configs(backbones):
    network = backbones.ResNetMoD(
        depth=50,
        conv_cfg=dict(type='ConvWS'),
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        base_channels=32,
        stem_channels=32,
        norm_eval=False,
    )
    assert all(type(m.conv).__name__ == 'ConvWS2d' for m in network.layer4[1].conv_block)
    assert isinstance(network.layer1[1].conv_block[0].norm, nn.GroupNorm)
    assert torch.isfinite(network(torch.rand(1, 3, 32, 32))[-1]).all()
