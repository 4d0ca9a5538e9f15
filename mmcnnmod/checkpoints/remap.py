"""Other toolboxes call the tensors of the same network otherwise; here they get a network's names.

Deep stems and average pooling in shortcuts (V1c, V1d) are named as :mod:`.key_styles` says; whether
mmpretrain numbers the pooling depends on the stride as well. The convolutions of an inverted
residual (MobileNetV2) are ``conv.0`` to ``conv.2`` in mmpretrain and mmseg, or to ``conv.1`` where
nothing is expanded; mmdet calls them ``expand_conv``, ``depthwise_conv`` and ``linear_conv``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

from torch import Tensor

from .key_styles import common_names

INVERTED = re.compile(r'(layer\d+\.\d+)\.(expand|depthwise|linear)_conv\.(.+)')
PLACES = ('expand', 'depthwise', 'linear')


def renames(
    state_dict: Mapping[str, Tensor], own: Mapping[str, Tensor], prefix: str = ''
) -> dict[str, str]:
    """Which tensors of a state dict a network calls otherwise.

    Args:
        state_dict (Mapping[str, Tensor]): Of the same network, from any toolbox.
        own (Mapping[str, Tensor]): The network's own state dict, without prefix.
        prefix (str): What stands before the network's names in ``state_dict``. Defaults to ''.

    Returns:
        dict[str, str]: From the name there to the name here, both with the prefix; only where
        they differ.
    """
    inside = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix) and isinstance(tensor, Tensor)
    }
    there, here = toolbox_free_names(inside), toolbox_free_names(own)
    return {
        prefix + there[common]: prefix + name
        for common, name in here.items()
        if common in there and there[common] != name
    }


def rename_tensors(
    state_dict: MutableMapping[str, Tensor], own: Mapping[str, Tensor], prefix: str = ''
) -> None:
    """Apply :func:`renames` to ``state_dict``, in place."""
    names = renames(state_dict, own, prefix)
    # All out before any goes in: the new name of one may be the old name of the next.
    tensors = {new: state_dict.pop(old) for old, new in names.items()}
    state_dict.update(tensors)


def toolbox_free_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """What the tensors of a backbone are called in its state dict, by names for all toolboxes."""
    expanding = {m[1] for m in map(INVERTED.fullmatch, state_dict) if m and m[2] == 'expand'}

    def of_inverted_residual(name: str) -> str:
        if match := INVERTED.fullmatch(name):
            block, place, rest = match.groups()
            number = PLACES.index(place) - (block not in expanding)
            return f'{block}.conv.{number}.{rest}'
        return name

    return {of_inverted_residual(common): name for common, name in common_names(state_dict).items()}
