"""Weights of the same network: what ``init_cfg=dict(type='Pretrained', ...)`` loads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from mmengine.logging import print_log
from mmengine.model import update_init_info
from mmengine.runner.checkpoint import load_state_dict
from torch import Tensor, nn

from ..errors import UserError
from ..layers import MoDBlock
from .dense_network import leading_prefix
from .key_styles import networks_in, normal_prefix
from .matching import has_mod_blocks, judge
from .reading import read_state_dict

SHOWN = 4
# More networks than a checkpoint holds.
LIKELY = 16


def load_pretrained(network: nn.Module, checkpoint: str, prefix: str | None = None) -> None:
    """Give an MoD backbone the weights of the same network, or those of the dense one by name.

    mmengine's own initialiser would load nothing from another network, and only warn.

    Args:
        network (nn.Module): An MoD backbone of any family; changed in place.
        checkpoint (str): A file or a URL, see :func:`read_checkpoint`.
        prefix (str, optional): What stands before the network's names, such as 'backbone.'.
            Defaults to None: nothing, or what is found to stand there.

    Raises:
        UserError: If it is of another network; then nothing has been changed.
    """
    state_dict = read_state_dict(checkpoint)
    name = type(network).__name__
    chosen = find_prefix(network, state_dict) if prefix is None else normal_prefix(prefix)
    match = judge(network, state_dict, chosen)
    if match.foreign:
        raise UserError(
            f'{name}: the checkpoint {checkpoint} is of another network: {match}; it holds '
            f'{describe_contents(state_dict)}; give a matching one, or the right prefix in '
            'init_cfg, or none'
        )
    inside = {n.removeprefix(chosen): t for n, t in state_dict.items() if n.startswith(chosen)}
    load_state_dict(network, inside, strict=False, logger='current')
    if not has_mod_blocks(inside):  # they are as they were drawn, and have to learn
        for module in network.modules():
            if isinstance(module, MoDBlock):
                module.requires_grad_(True)
    under = f' under {chosen!r}' if chosen else ''
    print_log(f'{name} starts from {checkpoint}{under}: {match}', logger='current')
    if hasattr(network, '_params_init_info'):  # mmengine's record of who initialised what
        update_init_info(network, f'Pretrained: from {checkpoint}')


def find_prefix(network: nn.Module, state_dict: Mapping[str, Tensor]) -> str:
    """What stands before a network's names in a state dict; '' if that cannot be told."""
    own = network.state_dict()
    counts = Counter(
        there.removesuffix(name) for name in own for there in state_dict if there.endswith(name)
    )
    likely = [prefix for prefix, _ in counts.most_common(LIKELY) if f'.{prefix}'.endswith('.')]
    fitting = [prefix for prefix in likely if not judge(network, state_dict, prefix).foreign]
    return leading_prefix(fitting) or ''


def describe_contents(names: Iterable[str]) -> str:
    """What a state dict holds, for errors: its networks, or else how its names begin."""
    names = list(names)
    kind = 'a {}-MoD' if has_mod_blocks(names) else 'a dense {}'
    if found := [(kind.format(family.name), prefix) for family, prefix in networks_in(names)]:
        return ' and '.join(f'{what} under {p!r}' if p else what for what, p in found)
    first = dict.fromkeys(name.split('.')[0] for name in names)
    shown = ', '.join(list(first)[:SHOWN]) + (', ...' if len(first) > SHOWN else '')
    return f'{len(names)} tensors of {shown}'
