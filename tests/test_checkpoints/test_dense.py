"""MoD networks of all families start from dense weights, by ``start_from_dense``."""

import re

import pytest
import torch
from mmcv.cnn.bricks import LayerScale
from torch import nn

from mmcnnmod.backbones import MoDBackbone, switch_to_deploy
from mmcnnmod.checkpoints import MAPPINGS, start_from_dense, start_model_from_dense
from mmcnnmod.errors import UserError
from mmcnnmod.layers import MoDBlock

from ..utils.dense_networks import (
    SMALL,
    WholeModel,
    add_prefix,
    assert_same_tensors,
    copy_tensors,
    init_cfg,
    outputs,
    randomized,
    without_mod_blocks,
)

models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
BN = dict(type='BN')
GN = dict(type='GN', num_groups=2)
V2 = dict(use_grn=True, layer_scale_init_value=0.0)
# The class of mmpretrain, and options of the dense and the MoD network.
NETWORKS = {
    'ResNet-18': ('ResNet', dict(depth=18, **SMALL)),
    'ResNet-50': ('ResNet', dict(depth=50, **SMALL)),
    'MobileNetV2': ('MobileNetV2', dict(widen_factor=0.5, out_indices=(7,))),
    'VGG-16': ('VGG', dict(depth=16, norm_cfg=BN)),
    'VGG-11 without norms': ('VGG', dict(depth=11)),
    'ConvNeXt': ('ConvNeXt', dict(arch=dict(depths=[2, 3, 5, 2], channels=[16, 16, 32, 64]))),
    'ConvNeXt V2': ('ConvNeXt', dict(arch=dict(depths=[2, 3], channels=[16, 32]),
                                     out_indices=(1,), **V2)),
}  # fmt: skip
# The parameters of a block that are scaled down if the block repeats an earlier one.
LAST_LAYERS = re.compile(
    r'bn2\.(weight|bias) of ResNet-18|bn3\.(weight|bias) of ResNet-50|gamma of ConvNeXt'
    r'|pointwise_conv2\.(weight|bias) of ConvNeXt V2'
)
DEEP = dict(arch=dict(depths=[2, 3, 5, 7], channels=[16, 16, 32, 64]))
DEEP_V2 = dict(arch=dict(depths=[2, 9], channels=[16, 32]))
# The dense network, other options of the MoD network, the mapping, and for each stage the dense
# blocks that initialise its standard blocks.
SELECTED_BLOCKS = [
    ('ResNet-18', {}, 'first', '0 | 0 | 0 | 0'),
    ('ResNet-18', dict(depth=34), 'first', '0 1 | 0 1 | 0 1 1 | 0 1'),
    ('ResNet-50', {}, 'first', '0 1 | 0 1 | 0 1 2 | 0 1'),
    ('ResNet-50', {}, 'same', '0 2 | 0 2 | 0 2 4 | 0 2'),
    ('ResNet-50', {}, 'spread', '0 2 | 0 3 | 0 2 5 | 0 2'),
    ('ResNet-50', dict(depth=75), 'first', '0 1 | 0 1 | 0 1 2 3 4 5 5 | 0 1'),
    ('ResNet-50', dict(depth=75), 'same', '0 2 | 0 2 | 0 2 4 5 5 5 5 | 0 2'),
    ('ResNet-50', dict(depth=75), 'spread', '0 2 | 0 3 | 0 1 2 2 3 4 5 | 0 2'),
    ('MobileNetV2', {}, 'first', '0 | 0 | 0 1 | 0 1 | 0 1 | 0 1 | 0'),
    ('MobileNetV2', {}, 'same', '0 | 0 | 0 2 | 0 2 | 0 2 | 0 2 | 0'),
    ('VGG-16', {}, 'first', '0 | 0 | 0 1 | 0 1 | 0 1'),
    ('VGG-16', {}, 'spread', '0 | 0 | 0 2 | 0 2 | 0 2'),
    ('VGG-11 without norms', {}, 'first', '0 | 0 | 0 | 0 | 0'),
    ('ConvNeXt', {}, 'first', '0 | 0 1 | 0 1 2 | 0'),
    ('ConvNeXt', {}, 'same', '0 | 0 2 | 0 2 4 | 0'),
    ('ConvNeXt', DEEP, 'first', '0 | 0 1 | 0 1 2 | 0 1 1 1'),
    ('ConvNeXt V2', {}, 'first', '0 | 0 1'),
    ('ConvNeXt V2', DEEP_V2, 'first', '0 | 0 1 2 2 2'),
]


def build_pair(name, **mod_options):
    """A dense network without equal tensors, and an MoD network."""
    kind, options = NETWORKS[name]
    dense = randomized(getattr(models, kind)(**options))
    if kind == 'ConvNeXt':  # a norm over one channel would cancel biases
        mod_options = {'c': 4, **mod_options}
    torch.manual_seed(0)
    return dense, getattr(models, f'{kind}MoD')(**{'r': 4, **options, **mod_options})


def started(name, **options):
    """An MoD network that starts from a dense one."""
    dense, network = build_pair(name)
    start_from_dense(network, dense.state_dict(), **options)
    return network


@pytest.mark.parametrize(('name', 'mod_options', 'mapping', 'blocks'), SELECTED_BLOCKS)
def test_standard_blocks_get_the_selected_dense_blocks(name, mod_options, mapping, blocks):
    """A block that repeats the dense block of an earlier one starts near identity."""
    dense, network = build_pair(name, **mod_options)
    line = start_from_dense(network, dense.state_dict(), mapping=mapping)
    assert f'{blocks} ({mapping!r})' in line

    repeated, in_blocks = 0, []
    for names, selected in zip(network.blocks_of_stages(), blocks.split(' | '), strict=True):
        in_blocks += [f'{name}.' for name in names]
        container, _, first = names[0].rpartition('.')
        indices = [int(i) for i in selected.split()]
        modules = [network.get_submodule(name) for name in names]
        standard = [module for module in modules if not isinstance(module, MoDBlock)]
        for n, (block, index) in enumerate(zip(standard, indices, strict=True)):
            dense_block = dense.get_submodule(f'{container}.{int(first) + index}')
            expected = dense_block.state_dict()
            if index in indices[:n]:
                repeated += 1
                scaled = [leaf for leaf in expected if LAST_LAYERS.fullmatch(f'{leaf} of {name}')]
                assert scaled
                expected.update({leaf: 0.01 * expected[leaf] for leaf in scaled})
            assert_same_tensors(block.state_dict(), expected)
    assert (f', {repeated} of them near identity' in line) == (repeated > 0)
    outside = {
        key: tensor
        for key, tensor in network.state_dict().items()
        if not key.startswith(tuple(in_blocks))
    }
    assert_same_tensors(outside, {key: dense.state_dict()[key] for key in outside})


@pytest.mark.parametrize('mapping', MAPPINGS)
def test_mappings_are_ascending_and_start_at_the_first_block(mapping):
    for count in range(1, 20):
        for blocks in range(1, 40):
            chosen = MAPPINGS[mapping](range(0, 2 * count, 2), blocks)
            assert chosen[0] == 0
            assert len(chosen) == count
            assert chosen == sorted(chosen)
            assert max(chosen) < blocks
            if mapping == 'spread':
                assert len(set(chosen)) == min(count, blocks)
                assert chosen[-1] == blocks - 1 or count == 1


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('name', NETWORKS)
def test_mod_blocks_start_near_identity(name, training):
    change = {}
    for strength in (0.01, 1.0):
        network = started(name, strength=strength)
        out = outputs(network, training)[-1]
        skipped = outputs(without_mod_blocks(network), training)[-1]
        change[strength] = float((out - skipped).norm() / skipped.norm())
    assert 0 < change[0.01] < (0.1 if name == 'MobileNetV2' else 0.05)
    assert change[0.01] < 0.1 * change[1.0]


@pytest.mark.parametrize('name', NETWORKS)
def test_every_mod_parameter_gets_a_gradient(name):
    network = started(name).train()
    for _ in range(2):
        network(torch.rand(2, 3, 64, 64))[-1].square().mean().backward()
    blocks = [module for module in network.modules() if isinstance(module, MoDBlock)]
    assert blocks
    assert all(p.grad.any() for block in blocks for p in block.parameters())


def test_layer_scale_of_mod_blocks_is_the_strength():
    """The default of 1e-6 would hardly grow in fine-tuning."""
    network = started('ConvNeXt', strength=0.02)
    scales = [module.weight for module in network.modules() if isinstance(module, LayerScale)]
    assert scales
    assert all((scale == 0.02).all() for scale in scales)


def test_activation_parameters_are_not_scaled():
    options = dict(depth=11, norm_cfg=BN, act_cfg=dict(type='PReLU'))
    network = models.VGGMoD(**options)
    start_from_dense(network, models.VGG(**options).state_dict())
    block = next(module for module in network.modules() if isinstance(module, MoDBlock))
    torch.testing.assert_close(block.conv_block[0].norm.weight, torch.full((block.k,), 0.01))
    assert (block.conv_block[0].activate.weight == 0.25).all()


def test_blocks_that_replace_channels_keep_their_strength():
    """A weak block would erase the channels that it replaces."""
    dense, network = build_pair('ResNet-18', fusion='replace')
    start_from_dense(network, dense.state_dict())
    assert (network.layer1[1].conv_block[-1].norm.weight == 1).all()


@pytest.mark.parametrize('name', NETWORKS)
def test_network_from_config_is_frozen_and_deployed_like_any_other(name, tmp_path):
    dense, _ = build_pair(name)
    kind, options = NETWORKS[name]
    start = init_cfg(tmp_path / 'a.pth', dense.state_dict(), 'backbone.')
    network = getattr(models, f'{kind}MoD')(r=4, frozen_stages=1, init_cfg=start, **options)
    network.init_weights()
    network.train()
    first = network.get_submodule(network.blocks_of_stages()[0][0])
    assert not any(p.requires_grad for p in first.parameters())
    blocks = [module for module in network.modules() if isinstance(module, MoDBlock)]
    assert all(p.requires_grad for block in blocks for p in block.parameters())
    loaded = getattr(models, f'{kind}MoD')(r=4, **options)
    loaded.load_state_dict(network.state_dict())
    expected = outputs(network)
    torch.testing.assert_close(outputs(loaded), expected)
    switch_to_deploy(loaded)
    torch.testing.assert_close(outputs(loaded), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', NETWORKS)
def test_other_parts_of_a_whole_model_are_kept(name):
    dense, model = map(WholeModel, build_pair(name))
    lines = start_model_from_dense(model, dense.state_dict())
    assert re.match(r'backbone: \d+ tensors of a ', lines[0])
    assert lines[1] == 'other parts: 2 of 2 tensors kept'
    assert torch.equal(model.head.weight, dense.head.weight)
    assert_same_tensors(model.backbone.state_dict(), started(name).state_dict())


@pytest.mark.parametrize('name', NETWORKS)
def test_skip_bound_starts_from_the_same_blocks(name):
    dense, network = build_pair(name, skip_bound=True)
    start_from_dense(network, dense.state_dict())
    torch.testing.assert_close(outputs(network), outputs(without_mod_blocks(started(name))))


def resnet(depth=50, **options):
    return models.ResNet(depth, **{**SMALL, **options}).state_dict()


def wider_resnet():
    """A ResNet whose first convolution in each block is twice as wide, such as a ResNeXt."""
    return {
        name: tensor.repeat_interleave(2, 0) if re.match(r'layer.*conv1', name) else tensor
        for name, tensor in resnet().items()
    }


class OwnFamily(MoDBackbone, models.ResNet):
    """A family without a translation of names, as in docs/adding_a_family.md."""

    blocks_of_stages = models.ResNetMoD.blocks_of_stages
    default_c = models.ResNetMoD.default_c
    keeps_shape = models.ResNetMoD.keeps_shape
    conv_block = models.ResNetMoD.conv_block


def resnet_mod():
    return models.ResNetMoD(50, **SMALL)


THREE_STAGES = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
# A network, a state dict, options of start_from_dense, and parts of the error.
MISMATCHES = [
    (resnet_mod, lambda: {'a': torch.zeros(1)}, {}, ['no ResNet, but 1 tensors of a']),
    (resnet_mod, lambda: resnet(18), {},
     ['needs a dense ResNet-50, 101 or 152', 'is a ResNet-18']),
    (resnet_mod, lambda: resnet(base_channels=32), {}, ['ResNet-50', 'of 160 tensors match']),
    (resnet_mod, wider_resnet, {}, ['of another shape', '16x16x1x1 here', '32x16x1x1']),
    (resnet_mod, lambda: resnet(norm_cfg=dict(type='GN', num_groups=4)), {},
     ['40 of 160 tensors match', '120 missing', 'norms']),
    (resnet_mod, lambda: resnet(**THREE_STAGES), {}, ['ResNet-41', '125 of 160 tensors match']),
    (resnet_mod, lambda: resnet(deep_stem=True), {}, ['stem of one conv', 'three convolutions']),
    (resnet_mod, resnet, {'prefix': 'backbone.'}, ["prefix 'backbone.'", "but under ''"]),
    (resnet_mod, lambda: add_prefix('q.', resnet()) | add_prefix('k.', resnet()), {},
     ['2 ResNets', "'q.', 'k.'"]),
    (resnet_mod, resnet, {'mapping': 'every'}, ["mapping 'every'", 'first, same, spread']),
    (resnet_mod, resnet, {'strength': 0}, ['strength must be positive']),
    (resnet_mod, lambda: resnet_mod().state_dict(), {},
     ['already holds a ResNet-MoD', "type='Pretrained'"]),
    (lambda: models.ResNet(50), resnet, {}, ['ResNet has no MoD blocks', "type='Pretrained'"]),
    (lambda: nn.Linear(1, 1), resnet, {}, ['Linear has no MoD blocks']),
    (lambda: OwnFamily(18), lambda: resnet(18), {},
     ['OwnFamily cannot start from dense weights: this is supported by']),
    (lambda: models.MobileNetV2MoD(arch='large'), lambda: models.MobileNetV2().state_dict(), {},
     ['64 of 170 tensors match', 'which is 32x96x1x1 here and 24x96x1x1 there']),
    (lambda: models.VGGMoD(16, norm_cfg=BN), lambda: models.VGG(16).state_dict(), {},
     ['16 of 48 tensors match', 'missing', 'same widths and norms']),
    (lambda: models.VGGMoD(19, mod_stages=(0,)), lambda: models.VGG(16).state_dict(), {},
     ['VGGMoD has more standard blocks in a stage than this VGG-16', 'of a deeper network']),
    (lambda: models.ConvNeXtMoD('tiny'), lambda: models.ResNet(18).state_dict(), {},
     ['it holds no ConvNeXt, but a dense ResNet']),
    (lambda: models.ConvNeXtMoD('tiny', **V2), lambda: models.ConvNeXt('tiny').state_dict(), {},
     ['missing', 'grn']),
    # The dense blocks have layers that the MoD network lacks.
    (lambda: models.VGGMoD(16), lambda: models.VGG(16, norm_cfg=BN).state_dict(), {},
     ['this VGG-16', 'tensors in its blocks, such as features.0.bn.weight', 'VGGMoD does not']),
    (lambda: models.ConvNeXtMoD('tiny'), lambda: models.ConvNeXt('tiny', **V2).state_dict(), {},
     ['tensors in its blocks, such as stages.0.0.grn.gamma']),
    # The tensors of another type of norm have the same shapes.
    (lambda: models.VGGMoD(16, norm_cfg=GN), lambda: models.VGG(16, norm_cfg=BN).state_dict(), {},
     ['missing', 'features.0.gn.weight']),
    (lambda: models.MobileNetV2MoD(norm_cfg=GN), lambda: models.MobileNetV2().state_dict(), {},
     ['missing', 'conv1.gn.weight']),
    (lambda: models.MobileNetV2MoD(mod_stages=(2,)),
     lambda: {n: t for n, t in models.MobileNetV2().state_dict().items() if 'layer4.3' not in n},
     {}, ['MobileNetV2MoD has more standard blocks in a stage than this MobileNetV2 of 1+2+3+3+']),
]  # fmt: skip


@pytest.mark.parametrize(('build', 'weights', 'options', 'words'), MISMATCHES)
def test_mismatch_raises_a_one_line_error_and_changes_nothing(build, weights, options, words):
    network = build()
    before = copy_tensors(network)
    with pytest.raises(UserError) as error:
        start_from_dense(network, weights(), **options)
    assert len(str(error.value).splitlines()) == 1
    assert all(word in str(error.value) for word in words), str(error.value)
    assert_same_tensors(network.state_dict(), before)
