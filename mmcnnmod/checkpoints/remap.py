"""Other toolboxes call the tensors of the same network otherwise; here they get a network's names.

Which name is which is in :mod:`.key_styles`.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from torch import Tensor, nn

from .key_styles import FAMILIES


def renames(
    state_dict: Mapping[str, Tensor], network: nn.Module, prefix: str = ''
) -> dict[str, str]:
    """Which tensors of a state dict a network calls otherwise.

    Args:
        state_dict (Mapping[str, Tensor]): Of the same network, from any toolbox.
        network (nn.Module): An MoD backbone, whose ``family`` says how its tensors are called.
        prefix (str): What stands before the network's names in ``state_dict``. Defaults to ''.

    Returns:
        dict[str, str]: From the name there to the name here, both with the prefix; only where
        they differ.
    """
    if network.family not in FAMILIES:
        return {}
    names_of = FAMILIES[network.family].common
    inside = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix) and isinstance(tensor, Tensor)
    }
    own = network.state_dict()
    if own.keys() <= inside.keys():
        return {}
    there, here = names_of(inside), names_of(own)
    return {
        prefix + there[common]: prefix + name
        for common, name in here.items()
        if common in there and there[common] != name
    }


def rename_tensors(
    state_dict: MutableMapping[str, Tensor], network: nn.Module, prefix: str = ''
) -> None:
    """Apply :func:`renames` to ``state_dict``, in place."""
    names = renames(state_dict, network, prefix)
    # All out before any goes in: the new name of one may be the old name of the next.
    tensors = {new: state_dict.pop(old) for old, new in names.items()}
    state_dict.update(tensors)
