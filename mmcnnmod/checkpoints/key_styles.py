"""Translation between the keys of toolboxes and libraries for the same network.

Each key is translated to a common name. The common names are those of mmpretrain, except in parts
of ResNets where mmpretrain's names depend on settings (``stem`` and ``shortcut``):

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

V1c and V1d have a stem of three convolutions. V1d has average pooling in its shortcuts, which is
numbered as a layer.

For VGG, mmpretrain numbers convolutions and poolings (``features.3.conv``), while torchvision and
timm number activations and norms as well (``features.5``). The names of MobileNetV2 and ConvNeXt
are in the tables below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from torch import Tensor, nn

# The common name of a block's tensor: block, stage, number in the stage, and name in the block.
BLOCK = re.compile(r'((layer\d+|stages\.\d+|features)\.(\d+))\.(.+)')


@dataclass(frozen=True)
class Family:
    """The names of the tensors of a family of networks.

    Attributes:
        name (str): The family's name.
        first (re.Pattern): Matches the name of the first weight of the first block, in all styles.
            Its group is the prefix of the network.
        common (Callable): Takes a state dict, dense or MoD and without prefix, and returns a dict
            from common names to the names in it. Tensors without a common name keep theirs.
        plain (re.Pattern): Matches the common names of tensors that all networks of the family
            have. Defaults to all names.
    """

    name: str
    first: re.Pattern
    common: Callable[[Mapping[str, Tensor]], dict[str, str]]
    plain: re.Pattern = re.compile('.*')

    def prefixes(self, names: Iterable[str]) -> list[str]:
        """The prefixes of this family's networks in a state dict, such as ''."""
        return [match[1] for match in map(self.first.fullmatch, names) if match]


def blocks_of_stages(names: Iterable[str]) -> list[list[str]]:
    """List the names of a dense network's blocks, stage by stage, given its tensor names."""
    found = {match[1]: match for match in map(BLOCK.fullmatch, names) if match}
    stages: dict[str, list[str]] = {}
    for block in sorted(found, key=lambda name: [int(n) for n in re.findall(r'\d+', name)]):
        stage, number = found[block][2], int(found[block][3])
        # VGG's stages have no numbers. Poolings, which are numbered like blocks, separate them.
        if stage == 'features':
            stage = f'{stage} {number - sum(map(len, stages.values()))}'
        stages.setdefault(stage, []).append(block)
    return list(stages.values())


DEEP_STEM = re.compile(r'(?:stem|conv1)\.(\d)\.(?:(conv|bn|gn|in)\.)?(\w+)')
LAST_STEM_NORM = re.compile(r'bn1\.(\w+)')
SHORTCUT = re.compile(r'(layer\d+\.\d+)\.downsample\.\d\.(\w+)')


def resnet_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Map the common names of a ResNet's tensors to the given names."""
    timm_stem = 'conv1.0.weight' in state_dict

    def common(name: str, kind: str) -> str:
        if match := DEEP_STEM.fullmatch(name):
            number, layer, leaf = match.groups()
            # mmpretrain numbers ConvModules, the others number convolutions, norms and ReLUs.
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


@cache
def mobilenet_v2_aliases(flat: bool) -> dict[str, str]:
    """Map the layer names of mmdet, timm and torchvision to the common names of MobileNetV2.

    Args:
        flat (bool): Whether the layers of a block, with its norms and activations, are numbered
            one by one, as in implementations before torchvision's.
    """
    aliases = {
        **{'features.0.0': 'conv1.conv', 'features.18.0': 'conv2.conv'},
        **{'features.0.1': 'conv1.bn', 'features.18.1': 'conv2.bn'},
        **{'conv_stem': 'conv1.conv', 'conv_head': 'conv2.conv'},
        **{'bn1': 'conv1.bn', 'bn2': 'conv2.bn'},
    }
    index = 0
    for stage, depth in enumerate((1, 2, 3, 4, 3, 3, 1), 1):
        layers = [('expand', 'conv_pw'), ('depthwise', 'conv_dw'), ('linear', 'conv_pwl')]
        if stage == 1:  # its block does not expand
            layers = [('depthwise', 'conv_dw'), ('linear', 'conv_pw')]
        for block in range(depth):
            index += 1
            torchvision, timm = f'features.{index}.conv', f'blocks.{stage - 1}.{block}'
            for i, (mmdet_word, timm_word) in enumerate(layers):
                layer = f'layer{stage}.{block}.conv.{i}'
                conv, norm = f'{i}.0', f'{i}.1'
                if flat:
                    conv, norm = 3 * i, 3 * i + 1
                elif mmdet_word == 'linear':  # its convolution and norm are not one module
                    conv, norm = i, i + 1
                aliases[f'layer{stage}.{block}.{mmdet_word}_conv'] = layer
                aliases[f'{torchvision}.{conv}'] = aliases[f'{timm}.{timm_word}'] = f'{layer}.conv'
                aliases[f'{torchvision}.{norm}'] = aliases[f'{timm}.bn{i + 1}'] = f'{layer}.bn'
    return aliases


def mobilenet_v2_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Map the common names of a MobileNetV2's tensors to the given names."""
    aliases = mobilenet_v2_aliases('features.1.conv.0.weight' in state_dict)

    def common(name: str) -> str:
        for parts in (1, 2):  # a tensor of a layer, or of a layer in mmdet's module
            module, *rest = name.rsplit('.', parts)
            if module in aliases:
                return '.'.join([aliases[module], *rest])
        return name

    return {common(name): name for name in state_dict}


FEATURE = re.compile(r'features\.(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)')


def vgg_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Map the common names of a VGG's tensors to the given names."""
    parts = {name: match for name in state_dict if (match := FEATURE.fullmatch(name))}
    norms = {int(match[1]) for match in parts.values() if match[2] == 'running_mean'}
    convs = sorted({int(match[1]) for match in parts.values()} - norms)
    step = 3 if norms else 2  # to the next convolution, if there is no pooling in between
    indices = dict.fromkeys(convs[:1], 0)
    for previous, conv in pairwise(convs):
        indices[conv] = indices[previous] + (1 if conv == previous + step else 2)

    def common(name: str) -> str:
        if name not in parts:
            return name
        number, leaf = int(parts[name][1]), parts[name][2]
        if number in norms:
            return f'features.{indices[number - 1]}.bn.{leaf}'
        return f'features.{indices[number]}.conv.{leaf}'

    return {common(name): name for name in state_dict}


# In a ConvNeXt: 'stages.1.0' of mmpretrain and its authors is 'stages.1.blocks.0' in timm and
# 'features.3.0' in torchvision; 'downsample_layers.1' is 'stages.1.downsample' and 'features.2'.
CONVNEXT_BLOCK = re.compile(r'(?:stages\.(\d)\.(?:blocks\.)?|features\.([1357])\.)(\d+)\.(.+)')
CONVNEXT_DOWN = re.compile(r'(?:stages\.(\d)\.downsample|(stem)|features\.([0246]))\.([01]\.\w+)')
CONVNEXT_WORDS = {  # of its authors, timm and torchvision
    **dict.fromkeys(('dwconv', 'conv_dw', 'block.0'), 'depthwise_conv'),
    'block.2': 'norm',
    **dict.fromkeys(('pwconv1', 'mlp.fc1', 'block.3'), 'pointwise_conv1'),
    **dict.fromkeys(('pwconv2', 'mlp.fc2', 'block.5'), 'pointwise_conv2'),
    'mlp.grn': 'grn',
}
LAST_NORMS = ('norm', 'norm_pre', 'head.norm', 'classifier.0')
GRN_LEAVES = {'weight': 'gamma', 'bias': 'beta'}  # timm's


def convnext_name(name: str) -> str:
    """The common name of a ConvNeXt's tensor."""
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
    # Offsets of deformable convolutions and plugins are left out: not all ResNets have them.
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
    lambda state_dict: {convnext_name(name): name for name in state_dict},
)
FAMILIES = {family.name: family for family in (RESNET, MOBILENET_V2, VGG, CONVNEXT)}


# The names of copies of a network in MoCo, BYOL, DINO, EMA and distillation.
COPY = re.compile(r'(^|[._])(encoder_k|key|momentum|target|teacher|ema)([._]|$)')


def networks_in(names: Iterable[str]) -> list[tuple[Family, str]]:
    """Find the networks of known families in a state dict; returns their families and prefixes."""
    names = list(names)
    return [(family, prefix) for family in FAMILIES.values() for prefix in family.prefixes(names)]


def normal_prefix(prefix: str) -> str:
    """Normalise a prefix: with a final dot and without the 'module.' of wrappers."""
    return f'{prefix.strip(".")}.'.removeprefix('module.').lstrip('.')


def tensors_under(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, by their names without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix) and isinstance(tensor, Tensor)
    }


def leading_prefix(prefixes: Sequence[str]) -> str | None:
    """Choose the main network in a checkpoint rather than its teacher or moving average.

    Returns:
        str | None: Its prefix, or None if several remain.
    """
    leading = [prefix for prefix in prefixes if not COPY.search(prefix)] or prefixes
    for usual in ('', 'backbone.', 'module.backbone.'):
        if usual in leading:
            return usual
    return leading[0] if len(leading) == 1 else None


def rename_tensors(
    state_dict: MutableMapping[str, Tensor], network: nn.Module, prefix: str = ''
) -> None:
    """Rename the tensors of a state dict to their names in a network, in place.

    Args:
        state_dict (MutableMapping[str, Tensor]): The state dict of the same network in any toolbox.
        network (nn.Module): An MoD backbone, whose ``family`` selects the translation.
        prefix (str): The prefix of the network in ``state_dict``. Defaults to ''.
    """
    if network.family not in FAMILIES:
        return
    given, wanted = tensors_under(state_dict, prefix), network.state_dict()
    if wanted.keys() <= given.keys():  # additional tensors may be in another style
        return
    given, wanted = map(FAMILIES[network.family].common, (given, wanted))
    # Remove all before adding any: the new name of one may be the old name of another.
    renamed = {
        prefix + name: state_dict.pop(prefix + given[common])
        for common, name in wanted.items()
        if common in given and given[common] != name
    }
    state_dict.update(renamed)
