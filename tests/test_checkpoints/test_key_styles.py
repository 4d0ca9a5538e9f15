"""Tensors are found by the names of any toolbox or library."""

import importlib
import re
from itertools import permutations

import pytest
import torch
import torchvision
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mmcnnmod.checkpoints import rename_tensors, start_from_dense
from mmcnnmod.toolboxes import MINIMUM_VERSIONS, is_absent

from ..utils.dense_networks import (
    SMALL,
    WholeModel,
    assert_equal,
    copied,
    init_cfg,
    outputs,
    randomized,
    without_mod_blocks,
)

# --- the same MoD network in two toolboxes ---

PAIRS = [
    (kind, source, target)
    for kind, toolboxes in {
        'ResNetMoD': ('mmpretrain', 'mmseg', 'mmdet'),
        'ResNetV1cMoD': ('mmpretrain', 'mmseg'),
        'ResNetV1dMoD': ('mmpretrain', 'mmseg', 'mmdet'),
        'MobileNetV2MoD': ('mmpretrain', 'mmdet'),  # mmseg's is another network, see below
    }.items()
    for source, target in permutations(toolboxes, 2)
]
MOD_PARTS = ('.selector.', '.conv_block.')
SIZES = {
    'ResNet': dict(depth=50, base_channels=16, stem_channels=16, c=16),
    'MobileNet': dict(widen_factor=0.5, out_indices=(6,)),
}


def backbone(toolbox, kind, seed, **kwargs):
    if is_absent(toolbox):
        pytest.skip(f'{toolbox} is not installed')
    torch.manual_seed(seed)
    size = next(size for family, size in SIZES.items() if kind.startswith(family))
    network = getattr(importlib.import_module(f'mmcnnmod.toolboxes.{toolbox}'), kind)(
        **{**size, **kwargs}
    )
    for name, buffer in network.named_buffers():  # make the norms differ
        if name.endswith('running_mean'):
            nn.init.normal_(buffer)
    return network


@pytest.mark.smoke
@pytest.mark.parametrize(('kind', 'source', 'target'), PAIRS)
def test_strictly_and_alone(kind, source, target):
    trained, network = backbone(source, kind, 1), backbone(target, kind, 2)
    assert not torch.allclose(outputs(network)[-1], outputs(trained)[-1])
    network.load_state_dict(trained.state_dict(), strict=True)
    torch.testing.assert_close(outputs(network)[-1], outputs(trained)[-1])


@pytest.mark.parametrize(('kind', 'source', 'target'), PAIRS)
def test_by_init_cfg_out_of_a_whole_model(kind, source, target, tmp_path):
    trained = backbone(source, kind, 1)
    weights = WholeModel(trained).state_dict()
    start = init_cfg(tmp_path / 'a.pth', weights, kind='Pretrained', prefix='backbone.')
    network = backbone(target, kind, 2, init_cfg=start)
    network.init_weights()
    torch.testing.assert_close(outputs(network)[-1], outputs(trained)[-1])


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, load_state_dict])
def test_a_whole_model_strictly(load):
    """With the functions of torch and mmengine, which traverse the modules in their own ways."""
    trained = WholeModel(backbone('mmpretrain', 'ResNetV1dMoD', 1))
    model = WholeModel(backbone('mmseg', 'ResNetV1dMoD', 2))
    load(model, trained.state_dict(), strict=True)
    torch.testing.assert_close(outputs(model)[-1], outputs(trained)[-1])
    average = ExponentialMovingAverage(model)  # holds a deep copy
    load(average.module, trained.state_dict(), strict=True)


def test_other_strides_number_the_pooling_otherwise():
    """mmpretrain leaves the pooling out where the stride is 1: even its own names differ."""
    dilated = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    trained = backbone('mmpretrain', 'ResNetV1dMoD', 1)
    network = backbone('mmpretrain', 'ResNetV1dMoD', 2, **dilated)
    assert set(network.state_dict()) != set(trained.state_dict())
    network.load_state_dict(trained.state_dict(), strict=True)
    back = backbone('mmseg', 'ResNetV1dMoD', 3)
    back.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(outputs(back)[-1], outputs(trained)[-1])


@pytest.mark.parametrize('toolbox', ['mmpretrain', 'mmdet'])
def test_mobilenet_v2_with_and_without_its_last_convolution(toolbox):
    """mmsegmentation's has none: all else is loaded."""
    trained, network = (backbone(t, 'MobileNetV2MoD', i) for i, t in enumerate((toolbox, 'mmseg')))
    result = network.load_state_dict(trained.state_dict(), strict=False)
    assert not result.missing_keys
    assert all(name.startswith('conv2.') for name in result.unexpected_keys)
    torch.testing.assert_close(outputs(network)[-1], outputs(trained)[-1])


def test_strictness_stays(toolbox):
    """Missing and unexpected names and other shapes are reported as before."""
    network = backbone(toolbox, 'ResNetV1dMoD', 1)
    weights = network.state_dict()
    broken = {**weights, 'stem.9.weight': torch.zeros(1)}
    broken.pop('layer1.0.conv1.weight')
    broken['layer2.0.conv1.weight'] = torch.zeros(3)
    with pytest.raises(RuntimeError) as error:
        network.load_state_dict(broken, strict=True)
    for words in ('layer1.0.conv1', 'stem.9.weight', 'layer2.0.conv1'):
        assert words in str(error.value)
    assert set(weights) == set(network.state_dict())


def test_the_given_state_dict_is_not_changed():
    trained = backbone('mmpretrain', 'ResNetV1cMoD', 1).state_dict()
    names = list(trained)
    backbone('mmseg', 'ResNetV1cMoD', 2).load_state_dict(trained)
    assert list(trained) == names


@pytest.mark.parametrize(('source', 'target'), permutations(MINIMUM_VERSIONS, 2))
def test_inverted_residuals_of_a_dense_network(source, target):
    """mmdetection names the convolutions of MobileNetV2, the others number them."""
    if is_absent(source):
        pytest.skip(f'{source} is not installed')
    dense = importlib.import_module(f'{source}.models.backbones').MobileNetV2(widen_factor=0.5)
    network = backbone(target, 'MobileNetV2MoD', 1)
    prefixed = {f'x.{name}': tensor for name, tensor in dense.state_dict().items()}
    found = dict(prefixed)
    rename_tensors(found, network, 'x.')
    assert (found.keys() != prefixed.keys()) == ('mmdet' in (source, target))
    found = {name.removeprefix('x.'): tensor for name, tensor in found.items()}
    here = network.state_dict()
    standard = {name for name in here if not any(part in name for part in MOD_PARTS)}
    assert standard - set(found) <= {n for n in here if n.startswith('conv2.')}
    assert all(found[n].shape == here[n].shape for n in found.keys() & here.keys())


def test_parts_of_a_vgg_keep_their_positions():
    """The index of a convolution cannot be inferred from the others in the checkpoint."""
    models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    full = randomized(models.VGG(16, norm_cfg=BN)).state_dict()
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


# --- dense networks: ResNet ---

# mmseg's numbers in deep stems, and the names in mmpretrain and timm.
STEM = {0: ('0.conv', '0'), 1: ('0.bn', '1'), 3: ('1.conv', '3'), 4: ('1.bn', '4'),
        6: ('2.conv', '6'), 7: ('2.bn', None)}  # fmt: skip


def resnet_in_style(state_dict, style):
    """mmseg's names in another style."""
    pooled = 'layer1.0.downsample.2.weight' in state_dict
    renamed = {}
    for name, tensor in state_dict.items():
        start, *rest = name.split('.')
        if start == 'stem' and style != 'mmseg':
            mmpretrain, timm = STEM[int(rest[0])]
            new = f'conv1.{timm}' if timm else 'bn1'
            name = f'stem.{mmpretrain}.{rest[1]}' if style == 'mmpretrain' else f'{new}.{rest[1]}'
        elif style == 'mmpretrain' and pooled and name.startswith('layer1.0.downsample'):
            name = name.replace('downsample.1', 'downsample.0').replace('sample.2', 'sample.1')
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize('variant', ['ResNet', 'ResNetV1c', 'ResNetV1d'])
def test_all_styles_of_a_resnet(backbones, variant):
    """With all prefixes; the names of timm were compared with timm 1.0."""
    mmseg = pytest.importorskip('mmseg.models.backbones')
    if not hasattr(backbones, f'{variant}MoD'):
        pytest.skip('this toolbox has no such ResNet')
    dense = randomized(getattr(mmseg, variant)(depth=50, **SMALL))
    expected = None
    for style, prefix in [
        ('mmseg', ''),
        ('mmseg', 'backbone.'),
        ('mmpretrain', ''),
        ('mmpretrain', 'module.backbone.'),
        ('timm', ''),
        ('timm', 'model.'),
        ('timm', 'detector.backbone.0.body.'),
    ]:
        weights = {**resnet_in_style(dense.state_dict(), style), 'fc.weight': torch.zeros(10, 512)}
        torch.manual_seed(0)
        network = getattr(backbones, f'{variant}MoD')(depth=50, **SMALL)
        start_from_dense(network, {prefix + name: tensor for name, tensor in weights.items()})
        assert torch.equal(network.layer3[4].conv2.weight, dense.layer3[2].conv2.weight)
        expected = expected or network.state_dict()
        assert_equal(network.state_dict(), expected)

    def parts(network):
        stem = [network.conv1] if variant == 'ResNet' else [network.stem]
        modules = [*stem, network.layer1[0].downsample, network.layer2[0].downsample]
        return [parameter for module in modules for parameter in module.parameters()]

    ours, theirs = parts(network), parts(dense)
    assert len(ours) == (7 if variant == 'ResNet' else 15)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize('source', ['mmpretrain', 'mmseg', 'mmdet'])
@pytest.mark.parametrize('variant', ['ResNet', 'ResNetV1c', 'ResNetV1d'])
def test_the_resnets_of_the_toolboxes(backbones, source, variant):
    """What their classes save, which is where those names come from."""
    models = pytest.importorskip(f'{source}.models.backbones')
    if not hasattr(models, variant) or not hasattr(backbones, f'{variant}MoD'):
        pytest.skip('a toolbox has no such ResNet')
    dense = randomized(getattr(models, variant)(depth=18, **SMALL))
    network = getattr(backbones, f'{variant}MoD')(depth=18, **SMALL)
    start_from_dense(network, dense.state_dict())
    for layer in dense.res_layers:
        setattr(dense, layer, nn.Sequential(getattr(dense, layer)[0]))
    torch.testing.assert_close(outputs(without_mod_blocks(network)), outputs(dense))


# --- dense networks: the other families ---

BN = dict(type='BN')
# mmpretrain's names in a block of MobileNetV2, and those of torchvision, timm, mmdet, and the
# implementations before torchvision's.
MOBILENET = {
    'conv.0.conv': ('conv.0.0', 'conv_pw', 'expand_conv.conv', 'conv.0'),
    'conv.0.bn': ('conv.0.1', 'bn1', 'expand_conv.bn', 'conv.1'),
    'conv.1.conv': ('conv.1.0', 'conv_dw', 'depthwise_conv.conv', 'conv.3'),
    'conv.1.bn': ('conv.1.1', 'bn2', 'depthwise_conv.bn', 'conv.4'),
    'conv.2.conv': ('conv.2', 'conv_pwl', 'linear_conv.conv', 'conv.6'),
    'conv.2.bn': ('conv.3', 'bn3', 'linear_conv.bn', 'conv.7'),
}
MOBILENET_FIRST = {  # the block that does not expand
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
# The same for ConvNeXt: torchvision, timm, and its authors.
CONVNEXT = {
    'depthwise_conv': ('block.0', 'conv_dw', 'dwconv'),
    'norm': ('block.2', 'norm', 'norm'),
    'pointwise_conv1': ('block.3', 'mlp.fc1', 'pwconv1'),
    'pointwise_conv2': ('block.5', 'mlp.fc2', 'pwconv2'),
}


def mobilenet_in_style(name, style):
    head, _, leaf = name.rpartition('.')
    if head in MOBILENET_OUTSIDE:
        return f'{MOBILENET_OUTSIDE[head][style]}.{leaf}'
    stage, block, rest = re.fullmatch(r'layer(\d)\.(\d)\.(.+)', head).groups()
    table = MOBILENET_FIRST if stage == '1' else MOBILENET
    index = 1 + sum((1, 2, 3, 4, 3, 3, 1)[: int(stage) - 1]) + int(block)
    start = [f'features.{index}', f'blocks.{int(stage) - 1}.{block}', f'layer{stage}.{block}']
    return f'{[*start, start[0]][style]}.{table[rest][style]}.{leaf}'


def convnext_in_style(name, style):
    if name.startswith('norm3.'):
        return ('classifier.0', 'head.norm', 'norm')[style] + name.removeprefix('norm3')
    if match := re.fullmatch(r'downsample_layers\.(\d)\.(\d)\.(\w+)', name):
        stage, layer, leaf = match.groups()
        timm = 'stem' if stage == '0' else f'stages.{stage}.downsample'
        start = (f'features.{2 * int(stage)}', timm, f'downsample_layers.{stage}')
        return f'{start[style]}.{layer}.{leaf}'
    stage, block, rest = re.fullmatch(r'stages\.(\d)\.(\d+)\.(.+)', name).groups()
    layer, _, leaf = rest.rpartition('.')
    new = f'{CONVNEXT[layer][style]}.{leaf}' if layer else ('layer_scale', 'gamma', 'gamma')[style]
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
    """The names of timm were compared with timm 1.0, those of ConvNeXt's authors with what
    mmpretrain's converter expects, the others with the packages."""
    models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    options, in_style, torchvisions, count, styles = STYLES[family]
    weights = randomized(getattr(models, family)(**options)).state_dict()
    torch.manual_seed(0)
    network = getattr(models, f'{family}MoD')(**options)
    start_from_dense(network, weights)
    expected = copied(network)
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
            assert_equal(network.state_dict(), expected)


@pytest.mark.parametrize('norm_cfg', [None, BN])
@pytest.mark.parametrize('depth', [11, 13, 16, 19])
def test_vgg_of_torchvision(depth, norm_cfg):
    """The order is the same as in mmpretrain, but activations, norms and poolings are counted."""
    models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
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
    assert_equal(*found)
    assert torch.equal(found[0]['features.0.conv.weight'], theirs['features.0.weight'])


@pytest.mark.parametrize('toolbox', ['mmseg', 'mmdet'])
def test_mobilenet_v2_of_the_other_toolboxes(toolbox):
    models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    others = pytest.importorskip(f'mmcnnmod.toolboxes.{toolbox}')
    weights = randomized(models.MobileNetV2()).state_dict()
    found = []
    for cls in (models.MobileNetV2MoD, others.MobileNetV2MoD):
        torch.manual_seed(0)
        network = cls()
        start_from_dense(network, weights)
        random = re.compile(r'conv2\.|.*\.(selector|conv_block)\.')
        found.append([t for name, t in network.state_dict().items() if not random.match(name)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
