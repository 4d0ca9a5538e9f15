"""MobileNetV2, VGG and ConvNeXt start from dense weights of any style. (ResNet: test_dense.py)"""

import re

import pytest
import torch
import torchvision
from mmcv.cnn.bricks import LayerScale
from torch import nn

from mmcnnmod.backbones import MoDBackbone, switch_to_deploy
from mmcnnmod.checkpoints import start_from_dense
from mmcnnmod.checkpoints.whole_model import start_model_from_dense
from mmcnnmod.errors import UserError
from mmcnnmod.layers import MoDBlock

from .test_dense import drawn, save

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
    dense = drawn(getattr(models, kind)(**options))
    if kind == 'ConvNeXt':  # over one channel a norm takes out what a bias adds
        more = {'c': 4, **more}
    torch.manual_seed(0)
    return dense, getattr(models, f'{kind}MoD')(**{'r': 4, **options, **more})


def outputs(network):
    network.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        return network(torch.rand(2, 3, 64, 64))[-1]


def keep_blocks(dense, names, chosen):
    """Let a dense network go through these blocks only, in this order."""
    modules = [[dense.get_submodule(name) for name in stage] for stage in names]
    for stage, own, blocks in zip(names, modules, chosen, strict=True):
        kept = [own[i] for i in blocks] + [nn.Identity()] * (len(own) - len(blocks))
        for name, module in zip(stage, kept, strict=True):
            container, _, key = name.rpartition('.')
            setattr(dense.get_submodule(container), key, module)


def without_mod_blocks(network):
    for stage in network.blocks_of_stages():
        for name in stage:
            if isinstance(network.get_submodule(name), MoDBlock):
                container, _, key = name.rpartition('.')
                setattr(network.get_submodule(container), key, nn.Identity())
    return network


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
        out = outputs(network)
        network.train()
        for _ in range(2):  # a layer behind one that is almost off gets its gradient then
            network(torch.rand(2, 3, 64, 64))[-1].square().mean().backward()
        blocks = [m for m in network.modules() if isinstance(m, MoDBlock)]
        assert blocks
        assert all(p.grad.any() for b in blocks for p in b.parameters())
        skipped = outputs(without_mod_blocks(pair_started(name, strength)))
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
    ours, theirs = outputs(without_mod_blocks(network)), outputs(dense)
    assert 0 < (ours - theirs).norm() < 0.1 * theirs.norm()


# --- names ---

MOBILENET_STAGES = (1, 2, 3, 4, 3, 3, 1)
MOBILENET = {
    # mmpretrain's place in a block that expands, the same in torchvision, timm, mmdet, and in the
    # implementations before torchvision's
    'conv.0.conv': ('conv.0.0', 'conv_pw', 'expand_conv.conv', 'conv.0'),
    'conv.0.bn': ('conv.0.1', 'bn1', 'expand_conv.bn', 'conv.1'),
    'conv.1.conv': ('conv.1.0', 'conv_dw', 'depthwise_conv.conv', 'conv.3'),
    'conv.1.bn': ('conv.1.1', 'bn2', 'depthwise_conv.bn', 'conv.4'),
    'conv.2.conv': ('conv.2', 'conv_pwl', 'linear_conv.conv', 'conv.6'),
    'conv.2.bn': ('conv.3', 'bn3', 'linear_conv.bn', 'conv.7'),
}
MOBILENET_FIRST = {
    'conv.0.conv': ('conv.0.0', 'conv_dw', 'depthwise_conv.conv', 'conv.0'),
    'conv.0.bn': ('conv.0.1', 'bn1', 'depthwise_conv.bn', 'conv.1'),
    'conv.1.conv': ('conv.1', 'conv_pw', 'linear_conv.conv', 'conv.3'),
    'conv.1.bn': ('conv.2', 'bn2', 'linear_conv.bn', 'conv.4'),
}
MOBILENET_OUTSIDE = {
    'conv1.conv': ('features.0.0', 'conv_stem', 'conv1.conv', 'features.0.0'),
    'conv1.bn': ('features.0.1', 'bn1', 'conv1.bn', 'features.0.1'),
    'conv2.conv': ('features.18.0', 'conv_head', 'conv2.conv', 'features.18.0'),
    'conv2.bn': ('features.18.1', 'bn2', 'conv2.bn', 'features.18.1'),
}


def mobilenet_in_style(name, style):
    head, _, leaf = name.rpartition('.')
    if head in MOBILENET_OUTSIDE:
        return f'{MOBILENET_OUTSIDE[head][style]}.{leaf}'
    stage, block, rest = re.fullmatch(r'layer(\d)\.(\d)\.(.+)', head).groups()
    table = MOBILENET_FIRST if stage == '1' else MOBILENET
    index = 1 + sum(MOBILENET_STAGES[: int(stage) - 1]) + int(block)
    start = [f'features.{index}', f'blocks.{int(stage) - 1}.{block}', f'layer{stage}.{block}']
    return f'{[*start, start[0]][style]}.{table[rest][style]}.{leaf}'


CONVNEXT = {
    # mmpretrain's place in a block, the same in torchvision, timm, and by ConvNeXt's authors
    'depthwise_conv': ('block.0', 'conv_dw', 'dwconv'),
    'norm': ('block.2', 'norm', 'norm'),
    'pointwise_conv1': ('block.3', 'mlp.fc1', 'pwconv1'),
    'pointwise_conv2': ('block.5', 'mlp.fc2', 'pwconv2'),
}


def convnext_in_style(name, style):
    if name.startswith('norm3.'):
        return ('classifier.0', 'head.norm', 'norm')[style] + name.removeprefix('norm3')
    if match := re.fullmatch(r'downsample_layers\.(\d)\.(\d)\.(\w+)', name):
        stage, layer, leaf = match.groups()
        timm = 'stem' if stage == '0' else f'stages.{stage}.downsample'
        start = (f'features.{2 * int(stage)}', timm, f'downsample_layers.{stage}')
        return f'{start[style]}.{layer}.{leaf}'
    stage, block, rest = re.fullmatch(r'stages\.(\d)\.(\d+)\.(.+)', name).groups()
    place, _, leaf = rest.rpartition('.')
    new = f'{CONVNEXT[place][style]}.{leaf}' if place else ('layer_scale', 'gamma', 'gamma')[style]
    start = (f'features.{2 * int(stage) + 1}.{block}', f'stages.{stage}.blocks.{block}',
             f'stages.{stage}.{block}')  # fmt: skip
    return f'{start[style]}.{new}'


STYLES = {
    'MobileNetV2': (
        dict(out_indices=(7,)), mobilenet_in_style, torchvision.models.mobilenet_v2, 170, 4
    ),
    'ConvNeXt': (dict(arch='tiny'), convnext_in_style, torchvision.models.convnext_tiny, 117, 3),
}  # fmt: skip


@pytest.mark.parametrize('family', STYLES)
def test_all_styles_of_names_give_the_same_network(family):
    """timm's names were compared with timm 1.0, those of ConvNeXt's authors with what mmpretrain's
    converter expects, the others with the packages."""
    options, in_style, torchvisions, count, styles = STYLES[family]
    weights = drawn(getattr(models, family)(**options)).state_dict()
    torch.manual_seed(0)
    network = getattr(models, f'{family}MoD')(**options)
    start_from_dense(network, weights)
    expected = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    theirs = torchvisions().state_dict()
    for style in range(styles):
        renamed = {in_style(name, style): tensor for name, tensor in weights.items()}
        if style == 0:
            assert {n for n in theirs if n.split('.')[0] != 'classifier'} <= set(renamed)
            # torchvision's layer scale is a map of one pixel.
            renamed = {n: t.reshape(theirs[n].shape) for n, t in renamed.items()}
        for prefix in ('', 'model.encoder.') if style == 0 else ('backbone.',):
            torch.manual_seed(0)
            network = getattr(models, f'{family}MoD')(**options)
            line = start_from_dense(network, {prefix + n: t for n, t in renamed.items()})
            assert line.startswith(f'{count} tensors of a {family}')
            for name, tensor in network.state_dict().items():
                assert torch.equal(tensor, expected[name]), (style, prefix, name)


@pytest.mark.parametrize('norm_cfg', [None, BN])
@pytest.mark.parametrize('depth', [11, 13, 16, 19])
def test_vgg_of_torchvision(depth, norm_cfg):
    """The order is the same as in mmpretrain, but activations, norms and poolings are counted."""
    theirs = getattr(torchvision.models, f'vgg{depth}{"_bn" if norm_cfg else ""}')()
    theirs = {n: t for n, t in theirs.state_dict().items() if n.startswith('features')}
    dense = models.VGG(depth, norm_cfg=norm_cfg)
    ours = dict(zip(dense.state_dict(), theirs.values(), strict=True))
    found = []
    for weights in (ours, theirs):
        torch.manual_seed(0)
        network = models.VGGMoD(depth, norm_cfg=norm_cfg)
        line = start_from_dense(network, weights)
        assert f'of a VGG-{depth} of' in line
        found.append(network.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert torch.equal(found[0]['features.0.conv.weight'], theirs['features.0.weight'])


@pytest.mark.parametrize('name', NETWORKS)
def test_through_a_config(name, tmp_path):
    """With what is frozen; and the trained network goes the way of any other."""
    dense, _ = pair(name)
    kind, options = NETWORKS[name]
    init_cfg = save(tmp_path / 'a.pth', dense.state_dict(), 'backbone.')
    network = getattr(models, f'{kind}MoD')(r=4, frozen_stages=1, init_cfg=init_cfg, **options)
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
     ['VGGMoD has more standard blocks in a stage than this VGG-16', 'of one as deep']),
    (lambda: models.ConvNeXtMoD('tiny'), lambda: models.ResNet(18).state_dict(),
     ['it holds no ConvNeXt, but names as in a ResNet']),
    (lambda: models.ConvNeXtMoD('tiny', **V2), lambda: models.ConvNeXt('tiny').state_dict(),
     ['missing', 'grn']),
    # What the dense blocks have and these have not would be lost.
    (lambda: models.VGGMoD(16), lambda: models.VGG(16, norm_cfg=BN).state_dict(),
     ['this VGG-16', 'tensors in its blocks, such as features.0.bn.weight', 'VGGMoD has no place']),
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
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError) as problem:
        start_from_dense(network, weights())
    assert '\n' not in str(problem.value)
    assert all(word in str(problem.value) for word in words), str(problem.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Classifier(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(3, 2)


@pytest.mark.parametrize('name', NETWORKS)
def test_a_whole_model(name):
    """Its other parts are kept."""
    dense, network = map(Classifier, pair(name))
    lines = start_model_from_dense(network, dense.state_dict())
    assert re.match(r'backbone: \d+ tensors of a ', lines[0])
    assert lines[1] == 'other parts: 2 of 2 tensors kept'
    assert torch.equal(network.head.weight, dense.head.weight)
    expected = pair_started(name, 0.01).state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in network.backbone.state_dict().items())


@pytest.mark.parametrize('toolbox', ['mmseg', 'mmdet'])
def test_mobilenet_v2_of_the_other_toolboxes(toolbox):
    others = pytest.importorskip(f'mmcnnmod.toolboxes.{toolbox}')
    weights = drawn(models.MobileNetV2()).state_dict()
    found = []
    for cls, options in ((models.MobileNetV2MoD, {}), (others.MobileNetV2MoD, {})):
        torch.manual_seed(0)
        network = cls(**options)
        start_from_dense(network, weights)
        drawn_parts = re.compile(r'conv2\.|.*\.(selector|conv_block)\.')
        found.append({k: v for k, v in network.state_dict().items() if not drawn_parts.match(k)})
    assert all(torch.equal(a, b) for a, b in zip(*(f.values() for f in found), strict=True))


@pytest.mark.parametrize('name', NETWORKS)
def test_without_its_mod_blocks_from_the_beginning(name):
    """The skip bound starts from the same blocks, as the control of an experiment."""
    dense, network = pair(name, skip_bound=True)
    start_from_dense(network, dense.state_dict())
    other = without_mod_blocks(pair_started(name, 0.01))
    torch.testing.assert_close(outputs(network), outputs(other))


def test_parts_of_a_vgg_keep_their_places():
    """Which place a convolution has cannot be told from those that are there."""
    full = drawn(models.VGG(16, norm_cfg=BN)).state_dict()
    network = models.VGGMoD(16, norm_cfg=BN)
    part = {n: t for n, t in full.items() if n.startswith(('features.12.', 'features.14.'))}
    network.load_state_dict(part, strict=False)
    assert torch.equal(network.features[14].conv.weight, full['features.14.conv.weight'])
    skipping = models.VGGMoD(16, norm_cfg=BN, skip_bound=True, mod_stages=(3,))
    theirs = torchvision.models.vgg16_bn().state_dict()
    skipping.load_state_dict(theirs, strict=False)
    assert torch.equal(skipping.features[12].conv.weight, theirs['features.30.weight'])
    network.load_state_dict(skipping.state_dict(), strict=False)
    assert torch.equal(network.features[12].conv.weight, theirs['features.30.weight'])
    network.load_state_dict({'head.weight': torch.ones(1)}, strict=False)


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

    with pytest.raises(UserError, match='Own cannot start from dense weights: that is known of'):
        start_from_dense(Own(depth=18), models.ResNet(18).state_dict())
