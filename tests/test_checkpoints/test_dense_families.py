"""MobileNetV2, VGG and ConvNeXt start from dense weights of any style. (ResNet: test_dense.py)"""

import re

import pytest
import torch
from mmcv.cnn.bricks import LayerScale
from torch import nn

from mmcnnmod.backbones import MoDBackbone, switch_to_deploy
from mmcnnmod.checkpoints import start_from_dense, start_model_from_dense
from mmcnnmod.errors import UserError
from mmcnnmod.layers import MoDBlock

from ..utils.dense_networks import (
    WholeModel,
    assert_equal,
    copied,
    init_cfg,
    outputs,
    randomized,
    replace,
    without_mod_blocks,
)

models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
BN = dict(type='BN')
GN = dict(type='GN', num_groups=2)
V2 = dict(use_grn=True, layer_scale_init_value=0.0)
# A class of mmpretrain's, and options of its dense and its MoD network.
NETWORKS = {
    'MobileNetV2': ('MobileNetV2', dict(widen_factor=0.5, out_indices=(7,))),
    'VGG-16': ('VGG', dict(depth=16, norm_cfg=BN)),
    'VGG-11 without norms': ('VGG', dict(depth=11)),
    'ConvNeXt': ('ConvNeXt', dict(arch=dict(depths=[2, 3, 5, 2], channels=[16, 16, 32, 64]))),
    'ConvNeXt V2': ('ConvNeXt', dict(arch=dict(depths=[2, 3], channels=[16, 32]),
                                     out_indices=(1,), **V2)),
}  # fmt: skip
# For each stage the dense blocks that its standard blocks start from.
BLOCKS = {
    ('MobileNetV2', 'first'): [[0], [0], [0, 1], [0, 1], [0, 1], [0, 1], [0]],
    ('MobileNetV2', 'same'): [[0], [0], [0, 2], [0, 2], [0, 2], [0, 2], [0]],
    ('VGG-16', 'first'): [[0], [0], [0, 1], [0, 1], [0, 1]],
    ('VGG-16', 'spread'): [[0], [0], [0, 2], [0, 2], [0, 2]],
    ('VGG-11 without norms', 'first'): [[0], [0], [0], [0], [0]],
    ('ConvNeXt', 'first'): [[0], [0, 1], [0, 1, 2], [0]],
    ('ConvNeXt', 'same'): [[0], [0, 2], [0, 2, 4], [0]],
    ('ConvNeXt V2', 'first'): [[0], [0, 1]],
}


def pair(name, **more):
    """A dense network with tensors of which no two are equal, and an MoD network."""
    kind, options = NETWORKS[name]
    dense = randomized(getattr(models, kind)(**options))
    if kind == 'ConvNeXt':  # over one channel a norm takes out what a bias adds
        more = {'c': 4, **more}
    torch.manual_seed(0)
    return dense, getattr(models, f'{kind}MoD')(**{'r': 4, **options, **more})


def keep_blocks(dense, names, chosen):
    """Let a dense network go through these blocks only, in this order."""
    for stage, blocks in zip(names, chosen, strict=True):
        kept = [dense.get_submodule(stage[i]) for i in blocks]
        kept += [nn.Identity()] * (len(stage) - len(blocks))
        for name, module in zip(stage, kept, strict=True):
            replace(dense, name, module)


@pytest.mark.parametrize(('which', 'blocks'), BLOCKS.items(), ids=map('-'.join, BLOCKS))
def test_without_its_mod_blocks_it_computes_what_those_dense_blocks_do(which, blocks):
    name, mapping = which
    dense, network = pair(name)
    line = start_from_dense(network, dense.state_dict(), mapping=mapping)
    assert ' | '.join(' '.join(map(str, stage)) for stage in blocks) in line
    keep_blocks(dense, network.blocks_of_stages(), blocks)
    torch.testing.assert_close(outputs(without_mod_blocks(network)), outputs(dense))


@pytest.mark.parametrize('name', NETWORKS)
def test_the_mod_blocks_start_near_identity_and_can_learn(name):
    change = {}
    for strength in (0.01, 1.0):
        dense, network = pair(name)
        start_from_dense(network, dense.state_dict(), strength=strength)
        out = outputs(network)[-1]
        network.train()
        for _ in range(2):  # a layer behind one that is almost off gets its gradient then
            network(torch.rand(2, 3, 64, 64))[-1].square().mean().backward()
        blocks = [m for m in network.modules() if isinstance(m, MoDBlock)]
        assert blocks
        assert all(p.grad.any() for b in blocks for p in b.parameters())
        skipped = outputs(without_mod_blocks(pair_started(name, strength)))[-1]
        change[strength] = float((out - skipped).norm() / skipped.norm())
    assert 0 < change[0.01] < 0.1
    assert change[0.01] < 0.2 * change[1.0]


def pair_started(name, strength):
    dense, network = pair(name)
    start_from_dense(network, dense.state_dict(), strength=strength)
    return network


def test_the_layer_scale_of_a_new_block_is_the_strength():
    """It starts at 1e-6 otherwise, which fine-tuning would hardly ever raise."""
    network = pair_started('ConvNeXt', 0.02)
    scales = [m.weight for m in network.modules() if isinstance(m, LayerScale)]
    assert scales
    assert all((scale == 0.02).all() for scale in scales)


@pytest.mark.parametrize('name', ['ConvNeXt', 'ConvNeXt V2'])
def test_a_deeper_convnext(name):
    """A block that stands there twice is near identity the second time."""
    dense, _ = pair(name)
    depths = NETWORKS[name][1]['arch']['depths']
    deep = dict(NETWORKS[name][1]['arch'], depths=[*depths[:-1], 2 * depths[-1] + 3])
    _, network = pair(name, arch=deep)
    line = start_from_dense(network, dense.state_dict())
    assert '2 of them near identity' in line
    chosen = [range((n + 1) // 2) for n in depths[:-1]] + [range(depths[-1])]
    keep_blocks(
        dense, [[f'stages.{i}.{j}' for j in range(n)] for i, n in enumerate(depths)], chosen
    )
    ours, theirs = outputs(without_mod_blocks(network))[-1], outputs(dense)[-1]
    assert 0 < (ours - theirs).norm() < 0.1 * theirs.norm()


@pytest.mark.parametrize('name', NETWORKS)
def test_through_a_config(name, tmp_path):
    """With what is frozen; and the trained network goes the way of any other."""
    dense, _ = pair(name)
    kind, options = NETWORKS[name]
    start = init_cfg(tmp_path / 'a.pth', dense.state_dict(), 'backbone.')
    network = getattr(models, f'{kind}MoD')(r=4, frozen_stages=1, init_cfg=start, **options)
    network.init_weights()
    network.train()
    stages = network.blocks_of_stages()
    first = network.get_submodule(stages[0][0])
    assert not any(p.requires_grad for p in first.parameters())
    blocks = [m for m in network.modules() if isinstance(m, MoDBlock)]
    assert all(p.requires_grad for block in blocks for p in block.parameters())
    again = getattr(models, f'{kind}MoD')(r=4, **options)
    again.load_state_dict(network.state_dict())
    expected = outputs(network)
    torch.testing.assert_close(outputs(again), expected)
    switch_to_deploy(again)
    torch.testing.assert_close(outputs(again), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(('build', 'weights', 'words'), [
    (lambda: models.MobileNetV2MoD(arch='large'), lambda: models.MobileNetV2().state_dict(),
     ['64 of 170 tensors match', 'which is 32x96x1x1 here and 24x96x1x1 there']),
    (lambda: models.VGGMoD(16, norm_cfg=BN), lambda: models.VGG(16).state_dict(),
     ['16 of 48 tensors match', 'missing', 'same widths and norms']),
    (lambda: models.VGGMoD(19, mod_stages=(0,)), lambda: models.VGG(16).state_dict(),
     ['VGGMoD has more standard blocks in a stage than this VGG-16', 'of a deeper network']),
    (lambda: models.ConvNeXtMoD('tiny'), lambda: models.ResNet(18).state_dict(),
     ['it holds no ConvNeXt, but a dense ResNet']),
    (lambda: models.ConvNeXtMoD('tiny', **V2), lambda: models.ConvNeXt('tiny').state_dict(),
     ['missing', 'grn']),
    # What the dense blocks have and these have not would be lost.
    (lambda: models.VGGMoD(16), lambda: models.VGG(16, norm_cfg=BN).state_dict(),
     ['this VGG-16', 'tensors in its blocks, such as features.0.bn.weight', 'VGGMoD does not']),
    (lambda: models.ConvNeXtMoD('tiny'), lambda: models.ConvNeXt('tiny', **V2).state_dict(),
     ['tensors in its blocks, such as stages.0.0.grn.gamma']),
    # A norm of another kind has tensors of the same shapes.
    (lambda: models.VGGMoD(16, norm_cfg=GN), lambda: models.VGG(16, norm_cfg=BN).state_dict(),
     ['missing', 'features.0.gn.weight']),
    (lambda: models.MobileNetV2MoD(norm_cfg=GN), lambda: models.MobileNetV2().state_dict(),
     ['missing', 'conv1.gn.weight']),
    (lambda: models.MobileNetV2MoD(mod_stages=(2,)),
     lambda: {n: t for n, t in models.MobileNetV2().state_dict().items() if 'layer4.3' not in n},
     ['MobileNetV2MoD has more standard blocks in a stage than this MobileNetV2 of 1+2+3+3+']),
])  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(build, weights, words):
    network = build()
    before = copied(network)
    with pytest.raises(UserError) as problem:
        start_from_dense(network, weights())
    assert '\n' not in str(problem.value)
    assert all(word in str(problem.value) for word in words), str(problem.value)
    assert_equal(network.state_dict(), before)


@pytest.mark.parametrize('name', NETWORKS)
def test_a_whole_model(name):
    """Its other parts are kept."""
    dense, network = map(WholeModel, pair(name))
    lines = start_model_from_dense(network, dense.state_dict())
    assert re.match(r'backbone: \d+ tensors of a ', lines[0])
    assert lines[1] == 'other parts: 2 of 2 tensors kept'
    assert torch.equal(network.head.weight, dense.head.weight)
    assert_equal(network.backbone.state_dict(), pair_started(name, 0.01).state_dict())


@pytest.mark.parametrize('name', NETWORKS)
def test_without_its_mod_blocks_from_the_beginning(name):
    """The skip bound starts from the same blocks, as the control of an experiment."""
    dense, network = pair(name, skip_bound=True)
    start_from_dense(network, dense.state_dict())
    other = without_mod_blocks(pair_started(name, 0.01))
    torch.testing.assert_close(outputs(network), outputs(other))


def test_the_activation_is_not_taken_for_the_last_layer():
    network = models.VGGMoD(11, norm_cfg=BN, act_cfg=dict(type='PReLU'))
    dense = models.VGG(11, norm_cfg=BN, act_cfg=dict(type='PReLU'))
    start_from_dense(network, dense.state_dict())
    block = next(m for m in network.modules() if isinstance(m, MoDBlock))
    torch.testing.assert_close(block.conv_block[0].norm.weight, torch.full((block.k,), 0.01))
    assert (block.conv_block[0].activate.weight == 0.25).all()


def test_a_family_of_ones_own():
    """docs/adding_a_family.md has one; nothing is known of how others call its tensors."""

    class Own(MoDBackbone, models.ResNet):
        blocks_of_stages = models.ResNetMoD.blocks_of_stages
        default_c = models.ResNetMoD.default_c
        keeps_shape = models.ResNetMoD.keeps_shape
        conv_block = models.ResNetMoD.conv_block

    with pytest.raises(
        UserError, match='Own cannot start from dense weights: this is supported by'
    ):
        start_from_dense(Own(depth=18), models.ResNet(18).state_dict())
