"""One set of names for the tensors of each family, whoever wrote them.

The common names are those of mmpretrain, except for the parts of ResNets whose names depend on
settings (``stem`` and ``shortcut``):

=============  ============  ==========  ===============  ===========
ResNet         torchvision   timm        mmpretrain       mmseg, mmdet
=============  ============  ==========  ===============  ===========
stem.0.conv                  conv1.0     stem.0.conv      stem.0
stem.0.norm                  conv1.1     stem.0.bn        stem.1
stem.1.conv                  conv1.3     stem.1.conv      stem.3
stem.2.norm                  bn1         stem.2.bn        stem.7
shortcut.conv  downsample.0  0, V1d 1    0, V1d 1 but     0, V1d 1
                                         0 in layer1
=============  ============  ==========  ===============  ===========

V1c and V1d have a stem of three convolutions, and V1d has average pooling in shortcuts, which
takes up a number.

=================  =============  ===============  ==========  ===================
MobileNetV2        torchvision    implementations  timm        mmdet
                                  before it
=================  =============  ===============  ==========  ===================
conv1.conv         features.0.0   features.0.0     conv_stem   conv1.conv
layer2.0           features.2     features.2       blocks.1.0  layer2.0
conv.0.conv        conv.0.0       conv.0           conv_pw     expand_conv.conv
conv.1.conv        conv.1.0       conv.3           conv_dw     depthwise_conv.conv
conv.2.conv        conv.2         conv.6           conv_pwl    linear_conv.conv
conv.2.bn          conv.3         conv.7           bn3         linear_conv.bn
conv2.conv         features.18.0  features.18.0    conv_head   conv2.conv
=================  =============  ===============  ==========  ===================

The first stage expands nothing, so that its blocks lack the first convolution. Of VGG mmpretrain
counts convolutions and poolings (``features.3.conv``), torchvision and timm count activations and
norms as well (``features.5``).

===================  ============  =====================  ===================
ConvNeXt             torchvision   timm                   its authors'
===================  ============  =====================  ===================
downsample_layers.0  features.0    stem                   downsample_layers.0
downsample_layers.1  features.2    stages.1.downsample    downsample_layers.1
stages.0.0           features.1.0  stages.0.blocks.0      stages.0.0
depthwise_conv       block.0       conv_dw                dwconv
norm                 block.2       norm                   norm
pointwise_conv1      block.3       mlp.fc1                pwconv1
grn.gamma                          mlp.grn.weight         grn.gamma
pointwise_conv2      block.5       mlp.fc2                pwconv2
gamma                layer_scale   gamma                  gamma
norm3                classifier.0  head.norm or norm_pre  norm
===================  ============  =====================  ===================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor

# A block by its common name, which begins with its stage; and the name inside the block.
BLOCK = re.compile(r'((layer\d+|stages\.\d+|features)\.(\d+))\.(.+)')


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


def blocks_of_stages(names: Iterable[str]) -> list[list[str]]:
    """The blocks of a dense network by the common names of its tensors, stage by stage."""
    found = {match[1]: match for match in map(BLOCK.fullmatch, names) if match}
    stages: dict[str, list[str]] = {}
    for block in sorted(found, key=lambda name: [int(n) for n in re.findall(r'\d+', name)]):
        stage, number = found[block][2], int(found[block][3])
        # VGG's stages have no numbers; between two of them stands a pooling.
        if stage == 'features':
            stage = f'{stage} {number - sum(map(len, stages.values()))}'
        stages.setdefault(stage, []).append(block)
    return list(stages.values())


DEEP_STEM = re.compile(r'(?:stem|conv1)\.(\d)\.(?:(conv|bn|gn|in)\.)?(\w+)')
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


INVERTED = re.compile(r'(layer(\d+)\.\d+)\.(expand|depthwise|linear)_conv\.(.+)')
TORCHVISION_INVERTED = re.compile(r'features\.(\d+)\.conv\.(\d)\.(?:([01])\.)?(\w+)')
TIMM_INVERTED = re.compile(r'blocks\.(\d)\.(\d)\.(conv_pw|conv_dw|conv_pwl|bn\d)\.(\w+)')
OUTSIDE = {
    'features.0.0': 'conv1.conv',
    'features.0.1': 'conv1.bn',
    'features.18.0': 'conv2.conv',
    'features.18.1': 'conv2.bn',
    'conv_stem': 'conv1.conv',
    'bn1': 'conv1.bn',
    'conv_head': 'conv2.conv',
    'bn2': 'conv2.bn',
}
# Where torchvision counts the first blocks of the seven stages.
STARTS = list(accumulate((1, 2, 3, 4, 3, 3), initial=1))
EXPANDING = ('expand', 'depthwise', 'linear'), ('conv_pw', 'conv_dw', 'conv_pwl')
NOT_EXPANDING = ('depthwise', 'linear'), ('conv_dw', 'conv_pw')


def mobilenet_v2_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of a MobileNetV2."""
    flat = 'features.1.conv.0.weight' in state_dict
    return {mobilenet_v2_name(name, flat): name for name in state_dict}


def mobilenet_v2_name(name: str, flat: bool) -> str:
    """The common name of a tensor of a MobileNetV2.

    Args:
        name (str): Its name.
        flat (bool): Whether a block counts its convolutions, norms and activations one by one.
    """
    if match := INVERTED.fullmatch(name):
        block, stage, word, rest = match.groups()
        words, _ = layers_of(int(stage))
        return f'{block}.conv.{words.index(word)}.{rest}'
    if match := TORCHVISION_INVERTED.fullmatch(name):
        index, number, part, leaf = match.groups()
        stage = sum(start <= int(index) for start in STARTS)
        last = len(layers_of(stage)[0]) - 1
        if flat:
            layer, kind = divmod(int(number), 3)
        elif part:
            layer, kind = int(number), int(part)
        else:  # the last convolution and its norm are counted one by one
            layer, kind = last, int(number) - last
        block = f'layer{stage}.{int(index) - STARTS[stage - 1]}'
        return f'{block}.conv.{layer}.{("conv", "bn")[kind]}.{leaf}'
    if match := TIMM_INVERTED.fullmatch(name):
        stage, block, word, leaf = match.groups()
        _, words = layers_of(int(stage) + 1)
        layer, kind = (words.index(word), 'conv') if word in words else (int(word[2]) - 1, 'bn')
        return f'layer{int(stage) + 1}.{block}.conv.{layer}.{kind}.{leaf}'
    head, _, leaf = name.rpartition('.')
    return f'{OUTSIDE[head]}.{leaf}' if head in OUTSIDE else name


def layers_of(stage: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The convolutions in the blocks of a stage, counted from 1, as mmdet and timm call them."""
    return NOT_EXPANDING if stage == 1 else EXPANDING


FEATURE = re.compile(r'features\.(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)')


def vgg_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of a VGG."""
    parts = {name: match for name in state_dict if (match := FEATURE.fullmatch(name))}
    norms = {int(match[1]) for match in parts.values() if match[2] == 'running_mean'}
    convs = sorted({int(match[1]) for match in parts.values()} - norms)
    step = 3 if norms else 2  # a pooling makes a larger one
    places, place = {}, 0
    for conv, previous in zip(convs, [None, *convs], strict=False):
        place += 0 if previous is None else 1 if conv == previous + step else 2
        places[conv] = place

    def common(name: str) -> str:
        if name not in parts:
            return name
        number, leaf = int(parts[name][1]), parts[name][2]
        if number in norms:
            return f'features.{places[number - 1]}.bn.{leaf}'
        return f'features.{places[number]}.conv.{leaf}'

    return {common(name): name for name in state_dict}


CONVNEXT_BLOCK = re.compile(r'(?:stages\.(\d)\.(?:blocks\.)?|features\.([1357])\.)(\d+)\.(.+)')
CONVNEXT_DOWN = re.compile(r'(?:stages\.(\d)\.downsample|(stem)|features\.([0246]))\.([01]\.\w+)')
CONVNEXT_LAYERS = {
    'depthwise_conv': ('dwconv', 'conv_dw', 'block.0'),
    'norm': ('block.2',),
    'pointwise_conv1': ('pwconv1', 'mlp.fc1', 'block.3'),
    'pointwise_conv2': ('pwconv2', 'mlp.fc2', 'block.5'),
    'grn': ('mlp.grn',),
}
CONVNEXT_WORDS = {other: word for word, others in CONVNEXT_LAYERS.items() for other in others}
LAST_NORMS = ('norm', 'norm_pre', 'head.norm', 'classifier.0')
GRN_LEAVES = {'weight': 'gamma', 'bias': 'beta'}  # timm's


def convnext_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of a ConvNeXt."""
    return {convnext_name(name): name for name in state_dict}


def convnext_name(name: str) -> str:
    """The common name of a tensor of a ConvNeXt."""
    if match := CONVNEXT_DOWN.fullmatch(name):
        timm, stem, torchvision, rest = match.groups()
        stage = 0 if stem else timm or int(torchvision) // 2
        return f'downsample_layers.{stage}.{rest}'
    if match := CONVNEXT_BLOCK.fullmatch(name):
        stage, torchvision, block, rest = match.groups()
        stage = stage or int(torchvision) // 2
        layer, _, leaf = rest.rpartition('.')
        layer = CONVNEXT_WORDS.get(layer, layer)
        if layer == 'grn':
            leaf = GRN_LEAVES.get(leaf, leaf)
        rest = f'{layer}.{leaf}' if layer else leaf.replace('layer_scale', 'gamma')
        return f'stages.{stage}.{block}.{rest}'
    head, _, leaf = name.rpartition('.')
    return f'norm3.{leaf}' if head in LAST_NORMS else name


RESNET = Family(
    'ResNet',
    re.compile(r'(|.*?\.)layer1\.0\.conv1\.weight'),
    resnet_names,
    # Not so are deformable convolutions' offsets and plugins, which a dense one starts afresh too.
    re.compile(
        r'(stem\.\d|layer\d\.\d+(\.shortcut)?)?\.?(conv|norm|bn|gn|in)\d?'
        r'\.(weight|bias|running_mean|running_var)'
    ),
)
MOBILENET_V2 = Family(
    'MobileNetV2',
    re.compile(
        r'(|.*?\.)(?:layer1\.0\.(?:conv\.0|depthwise_conv)\.conv|features\.1\.conv\.0(?:\.0)?'
        r'|blocks\.0\.0\.conv_dw)\.weight'
    ),
    mobilenet_v2_names,
)
VGG = Family('VGG', re.compile(r'(|.*?\.)features\.0\.(?:conv\.)?weight'), vgg_names)
CONVNEXT = Family(
    'ConvNeXt',
    re.compile(
        r'(|.*?\.)(?:stages\.0\.0\.(?:depthwise_conv|dwconv)|stages\.0\.blocks\.0\.conv_dw'
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
