"""One set of names for the tensors of ResNets from torchvision, timm and the toolboxes.

They agree on ``layer1.0.conv1`` and ``layer1.0.bn1``, not on stems of three convolutions (V1c and
V1d) and not on shortcuts (``downsample``), where average pooling takes up a number:

==============  ===========  ==========  ===============  ===========
here            torchvision  timm        mmpretrain       mmseg, mmdet
==============  ===========  ==========  ===============  ===========
stem.0.conv                  conv1.0     stem.0.conv      stem.0
stem.0.norm                  conv1.1     stem.0.bn        stem.1
stem.1.conv                  conv1.3     stem.1.conv      stem.3
stem.2.norm                  bn1         stem.2.bn        stem.7
shortcut.conv   0            0, V1d 1    0, V1d 1 but     0, V1d 1
                                         0 in layer1
==============  ===========  ==========  ===============  ===========
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

# Stage from 1, block from 0, and the name inside the block.
BLOCK = re.compile(r'layer(\d+)\.(\d+)\.(.+)')
FIRST_CONV = re.compile(r'(.*?)layer1\.0\.conv1\.weight')
DEEP_STEM = re.compile(r'(?:stem|conv1)\.(\d)\.(?:(conv|bn|gn|in)\.)?(\w+)')
LAST_STEM_NORM = re.compile(r'bn1\.(\w+)')
SHORTCUT = re.compile(r'(layer\d+\.\d+)\.downsample\.\d\.(\w+)')


def common_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """What the tensors of a ResNet are called in its state dict, by their common names.

    Args:
        state_dict (Mapping[str, Tensor]): Of a ResNet, dense or MoD, without prefix.

    Returns:
        dict[str, str]: ``stem.0.conv.weight`` leads to ``conv1.0.weight``, for instance. Tensors
        that have no other name keep theirs.
    """
    timm_stem = 'conv1.0.weight' in state_dict
    # The convolutions of ResNets have no bias.
    return {
        common_name(name, 'conv' if tensor.dim() == 4 else 'norm', timm_stem): name
        for name, tensor in state_dict.items()
    }


def common_name(name: str, kind: str, timm_stem: bool) -> str:
    """The common name of one tensor.

    Args:
        name (str): Its name.
        kind (str): 'conv' or 'norm', to which it belongs.
        timm_stem (bool): Whether ``bn1`` is the last norm of a deep stem.
    """
    if match := DEEP_STEM.fullmatch(name):
        number, layer, leaf = match.groups()
        # mmpretrain counts three ConvModules, the others every convolution, norm and ReLU.
        return f'stem.{number if layer else int(number) // 3}.{kind}.{leaf}'
    if timm_stem and (match := LAST_STEM_NORM.fullmatch(name)):
        return f'stem.2.norm.{match[1]}'
    if match := SHORTCUT.fullmatch(name):
        return f'{match[1]}.shortcut.{kind}.{match[2]}'
    return name


def resnet_prefixes(names: Iterable[str]) -> list[str]:
    """What stands before the names of each ResNet in a state dict, such as '' or 'backbone.'."""
    return [match[1] for match in map(FIRST_CONV.fullmatch, names) if match]


def normal_prefix(prefix: str) -> str:
    """A prefix as it stands before names: with its dot, without what wrappers put before it."""
    return f'{prefix.strip(".")}.'.removeprefix('module.').lstrip('.')
