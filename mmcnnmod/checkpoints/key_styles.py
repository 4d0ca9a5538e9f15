"""One set of names for the tensors of each family, whoever wrote them.

Here the blocks of all families are called ``layer1.0``, ``layer1.1`` and so on, with the stages
counted from 1 and the blocks of each from 0. Of ResNets, V1c and V1d have a stem of three
convolutions, and V1d has average pooling in shortcuts, which takes up a number.

============  ===========  ==========  ===============  ===========
ResNet        torchvision  timm        mmpretrain       mmseg, mmdet
============  ===========  ==========  ===============  ===========
stem.0.conv                conv1.0     stem.0.conv      stem.0
stem.0.norm                conv1.1     stem.0.bn        stem.1
stem.1.conv                conv1.3     stem.1.conv      stem.3
stem.2.norm                bn1         stem.2.bn        stem.7
shortcut.conv downsample.0 0, V1d 1    0, V1d 1 but     0, V1d 1
                                       0 in layer1
============  ===========  ==========  ===============  ===========

===========  ==================  =============  ===========  ================
MobileNetV2  torchvision         timm           mmpretrain,  mmdet
                                                mmseg
===========  ==================  =============  ===========  ================
conv1        features.0          conv_stem      conv1        conv1
layer2.0     features.2          blocks.1.0     layer2.0     layer2.0
expand       conv.0              conv_pw        conv.0       expand_conv       not in layer1
depthwise    conv.1              conv_dw        conv.1       depthwise_conv
project      conv.2 and conv.3   conv_pwl       conv.2       linear_conv
conv2        features.18         conv_head      conv2        conv2
===========  ==================  =============  ===========  ================

VGG counts convolutions and poolings in mmpretrain (``features.3.conv``), in torchvision and timm
also activations and norms (``features.7``).

===========  ==================  =============  ================  ================
ConvNeXt     torchvision         timm           mmpretrain        its authors'
===========  ==================  =============  ================  ================
down.0.conv  features.0.0        stem.0         downsample_layers.0.0
down.1.norm  features.2.0        stages.1.down- downsample_layers.1.0
                                 sample.0
layer1.0     features.1.0        stages.0.      stages.0.0        stages.0.0
                                 blocks.0
depthwise    block.0             conv_dw        depthwise_conv    dwconv
pointwise1   block.3             mlp.fc1        pointwise_conv1   pwconv1
gamma        layer_scale         gamma          gamma             gamma
===========  ==================  =============  ================  ================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor

# Stage from 1, block from 0, and the name inside the block.
BLOCK = re.compile(r'layer(\d+)\.(\d+)\.(.+)')
# In OpenMMLab's layers: the name that mmcv gives a norm depends on its kind.
NORM = '(?:bn|gn|in|ln)'


@dataclass(frozen=True)
class Family:
    """How the tensors of a family's networks are called.

    Attributes:
        name (str): Of the family.
        first (re.Pattern): The first weight of the first block, in every style; its group is what
            stands before the network's names.
        common (Callable): From a state dict, dense or MoD and without prefix, to its names by their
            common ones. Tensors that have no other name keep theirs.
        plain (re.Pattern): The common names of what every network of the family has.
    """

    name: str
    first: re.Pattern
    common: Callable[[Mapping[str, Tensor]], dict[str, str]]
    plain: re.Pattern = re.compile('.*')

    def prefixes(self, names: Iterable[str]) -> list[str]:
        """What stands before the names of each such network in a state dict, such as ''."""
        return [match[1] for match in map(self.first.fullmatch, names) if match]


DEEP_STEM = re.compile(rf'(?:stem|conv1)\.(\d)\.(?:(conv|{NORM})\.)?(\w+)')
LAST_STEM_NORM = re.compile(r'bn1\.(\w+)')
SHORTCUT = re.compile(r'(layer\d+\.\d+)\.downsample\.\d\.(\w+)')


def resnet_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of a ResNet."""
    timm_stem = 'conv1.0.weight' in state_dict

    def common(name: str, kind: str) -> str:
        if match := DEEP_STEM.fullmatch(name):
            number, layer, leaf = match.groups()
            # mmpretrain counts three ConvModules, the others every convolution, norm and ReLU.
            return f'stem.{number if layer else int(number) // 3}.{kind}.{leaf}'
        if timm_stem and (match := LAST_STEM_NORM.fullmatch(name)):
            return f'stem.2.norm.{match[1]}'
        if match := SHORTCUT.fullmatch(name):
            return f'{match[1]}.shortcut.{kind}.{match[2]}'
        return name

    # The convolutions of ResNets have no bias.
    return {
        common(name, 'conv' if tensor.dim() == 4 else 'norm'): name
        for name, tensor in state_dict.items()
    }


INVERTED = re.compile(r'layer(\d+)\.(\d+)\.(?:conv\.(\d)|(expand|depthwise|linear)_conv)\.(.+)')
TORCHVISION_INVERTED = re.compile(r'features\.(\d+)\.conv\.(\d)\.(?:([01])\.)?(\w+)')
TIMM_INVERTED = re.compile(r'blocks\.(\d)\.(\d)\.(conv_pw|conv_dw|conv_pwl|bn\d)\.(\w+)')
OUTSIDE = {
    'features.0.0': 'conv1.conv',
    'features.0.1': 'conv1.norm',
    'features.18.0': 'conv2.conv',
    'features.18.1': 'conv2.norm',
    'conv_stem': 'conv1.conv',
    'bn1': 'conv1.norm',
    'conv_head': 'conv2.conv',
    'bn2': 'conv2.norm',
    'conv1.bn': 'conv1.norm',
    'conv2.bn': 'conv2.norm',
}
# MobileNetV2's stages, and where torchvision counts their first blocks.
STARTS = list(accumulate((1, 2, 3, 4, 3, 3), initial=1))
EXPANDED = ('expand', 'depthwise', 'project')
TIMM_WORDS = {
    2: {'conv_dw': 'depthwise', 'conv_pw': 'project'},
    3: {'conv_pw': 'expand', 'conv_dw': 'depthwise', 'conv_pwl': 'project'},
}


def mobilenet_v2_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of a MobileNetV2."""
    return {mobilenet_v2_name(name): name for name in state_dict}


def mobilenet_v2_name(name: str) -> str:
    """The common name of a tensor of a MobileNetV2."""
    if match := INVERTED.fullmatch(name):
        stage, block, number, word, rest = match.groups()
        if number:
            word = layers_of(int(stage))[int(number)]
        rest = re.sub(rf'^{NORM}\.', 'norm.', rest)
        return f'layer{stage}.{block}.{word.replace("linear", "project")}.{rest}'
    if match := TORCHVISION_INVERTED.fullmatch(name):
        index, number, part, leaf = match.groups()
        stage = sum(start <= int(index) for start in STARTS)
        layers = layers_of(stage)
        # The last convolution and its norm are counted one by one.
        last = int(number) - (len(layers) - 1)
        word, kind = (layers[int(number)], int(part)) if part else ('project', last)
        block = int(index) - STARTS[stage - 1]
        return f'layer{stage}.{block}.{word}.{("conv", "norm")[kind]}.{leaf}'
    if match := TIMM_INVERTED.fullmatch(name):
        stage, block, layer, leaf = match.groups()
        layers = layers_of(int(stage) + 1)
        if layer.startswith('bn'):
            word, kind = layers[int(layer[2]) - 1], 'norm'
        else:
            order = (
                ('conv_pw', 'conv_dw', 'conv_pwl') if len(layers) == 3 else ('conv_dw', 'conv_pw')
            )
            word, kind = layers[order.index(layer)], 'conv'
        return f'layer{int(stage) + 1}.{block}.{word}.{kind}.{leaf}'
    head, _, leaf = name.rpartition('.')
    return f'{OUTSIDE[head]}.{leaf}' if head in OUTSIDE else name


def layers_of(stage: int) -> tuple[str, ...]:
    """The convolutions in the blocks of a stage; the first does not expand."""
    return EXPANDED[1:] if stage == 1 else EXPANDED


FEATURE = re.compile(r'features\.(\d+)\.(.+)')


def vgg_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of a VGG."""
    parts = {name: match.groups() for name in state_dict if (match := FEATURE.fullmatch(name))}
    modules = any('.' in rest for _, rest in parts.values())  # mmpretrain's
    norms = {int(number) for number, rest in parts.values() if rest == 'running_mean'}
    convs = sorted({int(number) for number, _ in parts.values()} - norms)
    # A pooling makes a larger step.
    step = 1 if modules else 3 if norms else 2
    places, stage, block = {}, 1, 0
    for conv, following in zip(convs, [*convs[1:], None], strict=True):
        places[conv] = f'layer{stage}.{block}'
        stage, block = (stage, block + 1) if following == conv + step else (stage + 1, 0)

    def common(name: str) -> str:
        if name not in parts:
            return name
        number, rest = int(parts[name][0]), parts[name][1]
        if modules:
            return f'{places[number]}.{re.sub(rf"^{NORM}[.]", "norm.", rest)}'
        if number in norms:
            return f'{places[number - 1]}.norm.{rest}'
        return f'{places[number]}.conv.{rest}'

    return {common(name): name for name in state_dict}


CONVNEXT_BLOCK = re.compile(r'(?:(stages)\.(\d)\.(?:blocks\.)?|features\.([1357])\.)(\d+)\.(.+)')
CONVNEXT_DOWN = re.compile(
    r'(?:downsample_layers\.(\d)|stages\.(\d)\.downsample|(stem)|features\.([0246]))\.([01])\.(\w+)'
)
CONVNEXT_LAYERS = {
    'depthwise': ('depthwise_conv', 'dwconv', 'conv_dw', 'block.0'),
    'norm': ('norm', 'block.2'),
    'pointwise1': ('pointwise_conv1', 'pwconv1', 'mlp.fc1', 'block.3'),
    'pointwise2': ('pointwise_conv2', 'pwconv2', 'mlp.fc2', 'block.5'),
    'grn': ('grn', 'mlp.grn'),
}
CONVNEXT_WORDS = {other: word for word, others in CONVNEXT_LAYERS.items() for other in others}
LAST_NORMS = ('norm', 'head.norm', 'classifier.0')
GRN_LEAVES = {'weight': 'gamma', 'bias': 'beta'}  # timm's


def convnext_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of a ConvNeXt."""
    return {convnext_name(name): name for name in state_dict}


def convnext_name(name: str) -> str:
    """The common name of a tensor of a ConvNeXt."""
    head, _, leaf = name.rpartition('.')
    if match := CONVNEXT_DOWN.fullmatch(name):
        here, timm, stem, torchvision, layer, leaf = match.groups()
        stage = 0 if stem else int(here or timm or 0) if not torchvision else int(torchvision) // 2
        kinds = ('norm', 'conv') if stage else ('conv', 'norm')
        return f'down.{stage}.{kinds[int(layer)]}.{leaf}'
    if match := CONVNEXT_BLOCK.fullmatch(name):
        _, stage, torchvision, block, rest = match.groups()
        stage = int(stage) + 1 if stage else (int(torchvision) + 1) // 2
        layer, _, leaf = rest.rpartition('.')
        word = CONVNEXT_WORDS.get(layer)
        if word == 'grn':
            leaf = GRN_LEAVES.get(leaf, leaf)
        if rest == 'layer_scale':
            rest = 'gamma'
        return f'layer{stage}.{block}.{f"{word}.{leaf}" if word else rest}'
    return f'norm3.{leaf}' if head in LAST_NORMS else name


RESNET = Family(
    'ResNet',
    re.compile(r'(.*?)layer1\.0\.conv1\.weight'),
    resnet_names,
    # Not so are deformable convolutions' offsets and plugins, which a dense one starts afresh too.
    re.compile(
        rf'(stem\.\d|layer\d\.\d+(\.shortcut)?)?\.?(conv|norm|{NORM})\d?'
        r'\.(weight|bias|running_mean|running_var)'
    ),
)
MOBILENET_V2 = Family(
    'MobileNetV2',
    re.compile(
        r'(.*?)(?:layer1\.0\.(?:conv\.0|depthwise_conv)\.conv|features\.1\.conv\.0\.0'
        r'|blocks\.0\.0\.conv_dw)\.weight'
    ),
    mobilenet_v2_names,
)
VGG = Family('VGG', re.compile(r'(.*?)features\.0\.(?:conv\.)?weight'), vgg_names)
CONVNEXT = Family(
    'ConvNeXt',
    re.compile(
        r'(.*?)(?:stages\.0\.0\.(?:depthwise_conv|dwconv)|stages\.0\.blocks\.0\.conv_dw'
        r'|features\.1\.0\.block\.0)\.weight'
    ),
    convnext_names,
)
FAMILIES = {family.name: family for family in (RESNET, MOBILENET_V2, VGG, CONVNEXT)}


def networks_in(names: Iterable[str]) -> list[tuple[Family, str]]:
    """The networks of these families in a state dict, each with what stands before its names."""
    names = list(names)
    return [(family, prefix) for family in FAMILIES.values() for prefix in family.prefixes(names)]


def normal_prefix(prefix: str) -> str:
    """A prefix as it stands before names: with its dot, without what wrappers put before it."""
    return f'{prefix.strip(".")}.'.removeprefix('module.').lstrip('.')
