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

from mmcnnmod.checkpoints import start_from_dense
from mmcnnmod.toolboxes import is_absent

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

# --- the same MoD network in two toolboxes ---

PAIRS = [
    (kind, source, target)
    for kind, toolboxes in {
        'ResNetMoD': ('mmpretrain', 'mmseg', 'mmdet'),
        'ResNetV1cMoD': ('mmpretrain', 'mmseg'),
        'ResNetV1dMoD': ('mmpretrain', 'mmseg', 'mmdet'),
        'MobileNetV2MoD': ('mmpretrain', 'mmdet'),  # mmseg's has another end, see below
    }.items()
    for source, target in permutations(toolboxes, 2)
]
SIZES = {
    'ResNet': dict(depth=50, base_channels=16, stem_channels=16, c=16),
    'MobileNet': dict(widen_factor=0.5, out_indices=(6,)),
}


def build_backbone(toolbox, kind, seed, **options):
    if is_absent(toolbox):
        pytest.skip(f'{toolbox} is not installed')
    torch.manual_seed(seed)
    size = next(size for family, size in SIZES.items() if kind.startswith(family))
    network = getattr(importlib.import_module(f'mmcnnmod.toolboxes.{toolbox}'), kind)(
        **{**size, **options}
    )
    for name, buffer in network.named_buffers():  # make the norms differ
        if name.endswith('running_mean'):
            nn.init.normal_(buffer)
    return network


def assert_same_output(network, expected):
    torch.testing.assert_close(outputs(network)[-1], outputs(expected)[-1])


@pytest.mark.smoke
@pytest.mark.parametrize(('kind', 'source', 'target'), PAIRS)
def test_backbone_loads_strictly(kind, source, target):
    trained, network = build_backbone(source, kind, 1), build_backbone(target, kind, 2)
    assert not torch.allclose(outputs(network)[-1], outputs(trained)[-1])
    network.load_state_dict(trained.state_dict(), strict=True)
    assert_same_output(network, trained)


@pytest.mark.parametrize(('kind', 'source', 'target'), PAIRS)
def test_backbone_loads_from_a_whole_model_by_init_cfg(kind, source, target, tmp_path):
    trained = build_backbone(source, kind, 1)
    weights = WholeModel(trained).state_dict()
    start = dict(init_cfg(tmp_path / 'a.pth', weights, kind='Pretrained'), prefix='backbone.')
    network = build_backbone(target, kind, 2, init_cfg=start)
    network.init_weights()
    assert_same_output(network, trained)


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, load_state_dict])
def test_whole_model_loads_strictly(load):
    """Also by mmengine's function, which traverses the modules in its own way."""
    trained = WholeModel(build_backbone('mmpretrain', 'ResNetV1dMoD', 1))
    names = list(trained.state_dict())
    state_dict = trained.state_dict()
    model = WholeModel(build_backbone('mmseg', 'ResNetV1dMoD', 2))
    load(model, state_dict, strict=True)
    assert list(state_dict) == names
    assert_same_output(model, trained)
    average = ExponentialMovingAverage(model)  # holds a deep copy
    load(average.module, trained.state_dict(), strict=True)


def test_stride_changes_the_numbering_of_shortcuts():
    """mmpretrain leaves out the pooling where the stride is 1, so even its own names differ."""
    dilated = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    trained = build_backbone('mmpretrain', 'ResNetV1dMoD', 1)
    network = build_backbone('mmpretrain', 'ResNetV1dMoD', 2, **dilated)
    assert set(network.state_dict()) != set(trained.state_dict())
    network.load_state_dict(trained.state_dict(), strict=True)
    back = build_backbone('mmseg', 'ResNetV1dMoD', 3)
    back.load_state_dict(network.state_dict(), strict=True)
    assert_same_output(back, trained)


@pytest.mark.parametrize('toolbox', ['mmpretrain', 'mmdet'])
def test_mmseg_mobilenet_v2_drops_the_last_convolution(toolbox):
    trained = build_backbone(toolbox, 'MobileNetV2MoD', 1)
    network = build_backbone('mmseg', 'MobileNetV2MoD', 2)
    result = network.load_state_dict(trained.state_dict(), strict=False)
    assert not result.missing_keys
    assert all(name.startswith('conv2.') for name in result.unexpected_keys)
    assert_same_output(network, trained)


@pytest.mark.parametrize(
    ('kind', 'options', 'extra'),
    [
        (
            'ConvNeXtMoD',
            dict(arch=dict(depths=[1, 2, 1, 1], channels=[8, 16, 32, 64]), c=4),
            'norm.weight',
        ),
        ('VGGMoD', dict(depth=16), 'features.3.running_mean'),
    ],
)
def test_extra_tensor_in_another_style_is_ignored(kind, options, extra):
    build = getattr(pytest.importorskip('mmcnnmod.toolboxes.mmpretrain'), kind)
    weights, network = build(**options).state_dict(), build(**options)
    result = network.load_state_dict({**weights, extra: torch.ones(1)}, strict=False)
    assert result.unexpected_keys == [extra]
    assert_same_tensors(network.state_dict(), weights)


def test_strict_loading_reports_mismatches(toolbox):
    network = build_backbone(toolbox, 'ResNetV1dMoD', 1)
    weights = network.state_dict()
    broken = {**weights, 'stem.9.weight': torch.zeros(1)}
    broken.pop('layer1.0.conv1.weight')
    broken['layer2.0.conv1.weight'] = torch.zeros(3)
    with pytest.raises(RuntimeError) as error:
        network.load_state_dict(broken, strict=True)
    for words in ('layer1.0.conv1', 'stem.9.weight', 'layer2.0.conv1'):
        assert words in str(error.value)
    assert set(weights) == set(network.state_dict())


def test_vgg_layers_keep_their_positions_in_partial_checkpoints():
    """The index of a convolution cannot be inferred from the others in the checkpoint."""
    models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    full = randomized(models.VGG(16, norm_cfg=BN)).state_dict()
    network = models.VGGMoD(16, norm_cfg=BN)
    part = {n: t for n, t in full.items() if n.startswith(('features.12.', 'features.14.'))}
    network.load_state_dict(part, strict=False)
    assert torch.equal(network.features[14].conv.weight, full['features.14.conv.weight'])
    skipping = models.VGGMoD(16, norm_cfg=BN, skip_bound=True, mod_stages=(3,))
    weights = torchvision.models.vgg16_bn().state_dict()
    skipping.load_state_dict(weights, strict=False)
    assert torch.equal(skipping.features[12].conv.weight, weights['features.30.weight'])
    network.load_state_dict(skipping.state_dict(), strict=False)
    assert torch.equal(network.features[12].conv.weight, weights['features.30.weight'])
    network.load_state_dict({'head.weight': torch.ones(1)}, strict=False)


# --- dense networks: ResNet ---


@pytest.mark.parametrize('source', ['mmpretrain', 'mmseg', 'mmdet'])
@pytest.mark.parametrize('variant', ['ResNet', 'ResNetV1c', 'ResNetV1d'])
def test_dense_resnets_of_every_toolbox(backbones, source, variant):
    models = pytest.importorskip(f'{source}.models.backbones')
    if not hasattr(models, variant) or not hasattr(backbones, f'{variant}MoD'):
        pytest.skip('a toolbox has no such ResNet')
    dense = randomized(getattr(models, variant)(depth=50, **SMALL))
    network = getattr(backbones, f'{variant}MoD')(depth=50, **SMALL)
    start_from_dense(network, dense.state_dict())
    for layer, standard_blocks in zip(dense.res_layers, (2, 2, 3, 2), strict=True):
        setattr(dense, layer, nn.Sequential(*list(getattr(dense, layer))[:standard_blocks]))
    torch.testing.assert_close(outputs(without_mod_blocks(network)), outputs(dense))


def timm_resnet_name(name):
    """The name in timm 1.0 of a tensor of mmsegmentation's ResNet."""
    if match := re.fullmatch(r'stem\.(\d)\.(\w+)', name):
        number, leaf = match.groups()
        return f'bn1.{leaf}' if number == '7' else f'conv1.{number}.{leaf}'
    return name


@pytest.mark.parametrize('variant', ['ResNet', 'ResNetV1c', 'ResNetV1d'])
def test_timm_names_and_prefixes_of_resnets(backbones, variant):
    mmseg = pytest.importorskip('mmseg.models.backbones')
    if not hasattr(backbones, f'{variant}MoD'):
        pytest.skip('this toolbox has no such ResNet')
    weights = randomized(getattr(mmseg, variant)(depth=50, **SMALL)).state_dict()
    timm = {timm_resnet_name(name): tensor for name, tensor in weights.items()}
    expected = None
    for state_dict, prefix in (
        (weights, ''),
        (weights, 'module.backbone.'),
        (timm, ''),
        (timm, 'model.'),
        (timm, 'detector.backbone.0.body.'),
    ):
        torch.manual_seed(0)
        network = getattr(backbones, f'{variant}MoD')(depth=50, **SMALL)
        with_head = {**state_dict, 'fc.weight': torch.zeros(10, 512)}
        start_from_dense(network, add_prefix(prefix, with_head))
        expected = expected or network.state_dict()
        assert_same_tensors(network.state_dict(), expected)


# --- dense networks: the other families ---

BN = dict(type='BN')
# mmpretrain's names in a block of MobileNetV2, and the names of torchvision, timm, and
# implementations before torchvision's.
MOBILENET = {
    'conv.0.conv': ('conv.0.0', 'conv_pw', 'conv.0'),
    'conv.0.bn': ('conv.0.1', 'bn1', 'conv.1'),
    'conv.1.conv': ('conv.1.0', 'conv_dw', 'conv.3'),
    'conv.1.bn': ('conv.1.1', 'bn2', 'conv.4'),
    'conv.2.conv': ('conv.2', 'conv_pwl', 'conv.6'),
    'conv.2.bn': ('conv.3', 'bn3', 'conv.7'),
}
MOBILENET_FIRST = {  # the block that does not expand
    'conv.0.conv': ('conv.0.0', 'conv_dw', 'conv.0'),
    'conv.0.bn': ('conv.0.1', 'bn1', 'conv.1'),
    'conv.1.conv': ('conv.1', 'conv_pw', 'conv.3'),
    'conv.1.bn': ('conv.2', 'bn2', 'conv.4'),
}
MOBILENET_OUTSIDE = {
    'conv1.conv': ('features.0.0', 'conv_stem', 'features.0.0'),
    'conv1.bn': ('features.0.1', 'bn1', 'features.0.1'),
    'conv2.conv': ('features.18.0', 'conv_head', 'features.18.0'),
    'conv2.bn': ('features.18.1', 'bn2', 'features.18.1'),
}
# The same for ConvNeXt: torchvision, timm, and its authors.
CONVNEXT = {
    'depthwise_conv': ('block.0', 'conv_dw', 'dwconv'),
    'norm': ('block.2', 'norm', 'norm'),
    'pointwise_conv1': ('block.3', 'mlp.fc1', 'pwconv1'),
    'pointwise_conv2': ('block.5', 'mlp.fc2', 'pwconv2'),
}


def mobilenet_name(name, style):
    """The name of a tensor of mmpretrain's MobileNetV2 in another style, by its number."""
    layer, _, leaf = name.rpartition('.')
    if layer in MOBILENET_OUTSIDE:
        return f'{MOBILENET_OUTSIDE[layer][style]}.{leaf}'
    stage, block, rest = re.fullmatch(r'layer(\d)\.(\d)\.(.+)', layer).groups()
    table = MOBILENET_FIRST if stage == '1' else MOBILENET
    index = 1 + sum((1, 2, 3, 4, 3, 3, 1)[: int(stage) - 1]) + int(block)
    starts = (f'features.{index}', f'blocks.{int(stage) - 1}.{block}', f'features.{index}')
    return f'{starts[style]}.{table[rest][style]}.{leaf}'


def convnext_name(name, style):
    """The name of a tensor of mmpretrain's ConvNeXt in another style, by its number."""
    if name.startswith('norm3.'):
        return ('classifier.0', 'head.norm', 'norm')[style] + name.removeprefix('norm3')
    if match := re.fullmatch(r'downsample_layers\.(\d)\.(\d)\.(\w+)', name):
        stage, layer, leaf = match.groups()
        timm = 'stem' if stage == '0' else f'stages.{stage}.downsample'
        starts = (f'features.{2 * int(stage)}', timm, f'downsample_layers.{stage}')
        return f'{starts[style]}.{layer}.{leaf}'
    stage, block, rest = re.fullmatch(r'stages\.(\d)\.(\d+)\.(.+)', name).groups()
    layer, _, leaf = rest.rpartition('.')
    new = f'{CONVNEXT[layer][style]}.{leaf}' if layer else ('layer_scale', 'gamma', 'gamma')[style]
    starts = (f'features.{2 * int(stage) + 1}.{block}', f'stages.{stage}.blocks.{block}',
              f'stages.{stage}.{block}')  # fmt: skip
    return f'{starts[style]}.{new}'


STYLES = {
    'MobileNetV2': (dict(out_indices=(7,)), mobilenet_name, torchvision.models.mobilenet_v2, 170),
    'ConvNeXt': (dict(arch='tiny'), convnext_name, torchvision.models.convnext_tiny, 117),
}


@pytest.mark.parametrize('family', STYLES)
def test_all_styles_of_names_give_the_same_network(family):
    """The names of timm were compared with timm 1.0, those of ConvNeXt's authors with what
    mmpretrain's converter expects."""
    models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    options, name_in_style, build_torchvision, count = STYLES[family]
    weights = randomized(getattr(models, family)(**options)).state_dict()
    torch.manual_seed(0)
    network = getattr(models, f'{family}MoD')(**options)
    start_from_dense(network, weights)
    expected = copy_tensors(network)
    real = build_torchvision().state_dict()
    for style in range(3):
        renamed = {name_in_style(name, style): tensor for name, tensor in weights.items()}
        if style == 0:
            assert {n for n in real if n.split('.')[0] != 'classifier'} <= set(renamed)
            # torchvision's layer scale is a 1x1 map.
            renamed = {n: t.reshape(real[n].shape) for n, t in renamed.items()}
        for prefix in ('', 'model.encoder.') if style == 0 else ('backbone.',):
            torch.manual_seed(0)
            network = getattr(models, f'{family}MoD')(**options)
            line = start_from_dense(network, add_prefix(prefix, renamed))
            assert line.startswith(f'{count} tensors of a {family}')
            assert_same_tensors(network.state_dict(), expected)


@pytest.mark.parametrize('source', ['mmpretrain', 'mmseg', 'mmdet'])
def test_dense_mobilenet_v2_of_every_toolbox(backbones, source):
    models = pytest.importorskip(f'{source}.models.backbones')
    dense, network = randomized(models.MobileNetV2()), backbones.MobileNetV2MoD()
    start_from_dense(network, dense.state_dict())
    pairs = [('conv1', 'conv1'), ('layer4.2', 'layer4.1')]
    pairs += [(f'layer{i}.0', f'layer{i}.0') for i in range(1, 8)]
    for name, dense_name in pairs:
        tensors = network.get_submodule(name).state_dict().values()
        expected = dense.get_submodule(dense_name).state_dict().values()
        assert all(torch.equal(a, b) for a, b in zip(tensors, expected, strict=True))


@pytest.mark.parametrize('norm_cfg', [None, BN])
@pytest.mark.parametrize('depth', [11, 13, 16, 19])
def test_torchvision_vgg(depth, norm_cfg):
    """The order is that of mmpretrain, but activations, norms and poolings are numbered, too."""
    models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    network = getattr(torchvision.models, f'vgg{depth}{"_bn" if norm_cfg else ""}')()
    weights = {n: t for n, t in network.state_dict().items() if n.startswith('features')}
    dense = models.VGG(depth, norm_cfg=norm_cfg)
    renamed = dict(zip(dense.state_dict(), weights.values(), strict=True))
    networks = []
    for state_dict in (renamed, weights):
        torch.manual_seed(0)
        network = models.VGGMoD(depth, norm_cfg=norm_cfg)
        line = start_from_dense(network, state_dict)
        assert f'of a VGG-{depth} of' in line
        networks.append(network.state_dict())
    assert_same_tensors(*networks)
    assert torch.equal(networks[0]['features.0.conv.weight'], weights['features.0.weight'])
