"""Arguments that only some of the toolboxes' ResNets have."""

import pytest
import torch

from mmcnnmod.layers import MoDBlock

SMALL = dict(base_channels=16, stem_channels=16)


def test_dcn_and_plugins_apply_to_standard_blocks_only():
    mmdet = pytest.importorskip('mmcnnmod.toolboxes.mmdet')
    plugin = dict(
        cfg=dict(type='ContextBlock', ratio=0.25), stages=(False, True, True, True),
        position='after_conv3',
    )  # fmt: skip
    network = mmdet.ResNetMoD(
        depth=50,
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
        plugins=[plugin],
        **SMALL,
    )
    standard, mod = network.layer2[0], network.layer2[1]
    assert type(standard.conv2).__name__ == 'ModulatedDeformConv2dPack'
    assert standard.with_plugins
    assert isinstance(mod, MoDBlock)
    assert type(mod.conv_block[1].conv) is torch.nn.Conv2d
    network.eval()
    assert network(torch.rand(1, 3, 64, 64))[-1].shape == (1, 512, 2, 2)


def test_multi_grid_and_contract_dilation():
    mmseg = pytest.importorskip('mmcnnmod.toolboxes.mmseg')
    network = mmseg.ResNetMoD(
        depth=50,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        multi_grid=(1, 2, 4),
        contract_dilation=True,
        **SMALL,
    )
    assert network.layer3[0].conv2.dilation == (1, 1)  # contracted
    assert network.layer3[1].conv_block[1].conv.dilation == (2, 2)
    # multi_grid sets the dilations of the last stage's blocks: the second one is 2.
    dense = mmseg.ResNet(
        depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), multi_grid=(1, 2, 4), **SMALL
    )
    assert network.layer4[1].conv_block[1].conv.dilation == dense.layer4[1].conv2.dilation


def test_drop_path():
    mmpretrain = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    network = mmpretrain.ResNetMoD(depth=18, drop_path_rate=0.5, **SMALL)
    block = network.layer4[1].train()
    block.drop_path.drop_prob = 1 - 1e-6
    x = torch.rand(4, 128, 2, 2)
    assert torch.equal(block(x), x)  # the processed channels are dropped in all samples


def test_expansion():
    mmpretrain = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    network = mmpretrain.ResNetMoD(depth=50, expansion=2, c=4, **SMALL)
    convs = [module.conv for module in network.layer4[1].conv_block]
    assert [(c.in_channels, c.out_channels) for c in convs] == [(64, 32), (32, 32), (32, 64)]
