"""Load a checkpoint of the same network, and raise an error if it is of another network.

mmengine loads with ``strict=False``: with a checkpoint of another network, or one whose keys have
another prefix, it loads nothing and only warns. Training then starts from scratch unnoticed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mmengine.logging import print_log
from mmengine.model import update_init_info
from mmengine.runner.checkpoint import load_state_dict
from torch import Tensor, nn

from ..errors import UserError
from ..layers import MoDBlock
from .key_styles import (
    leading_prefix,
    networks_in,
    normal_prefix,
    rename_tensors,
    tensors_under,
)
from .reading import read_state_dict

# The share of tensors that must match, in an MoD backbone and in a model without one. Most tensors
# of the latter may belong to a new head.
MIN_SHARE = 0.8
MIN_SHARE_OF_DENSE = 0.45
# The share of tensors that may have another shape. In fine-tuning, a new stem or classifier causes
# a few such tensors. More indicate another architecture.
MAX_CLASHES = 0.05
MAX_PREFIXES = 16  # how many are tried; no checkpoint has so many networks
MAX_SHOWN = 4  # how many beginnings of names an error shows
# A block of a ResNet's stage.
STAGE_AND_BLOCK = re.compile(r'(layer\d+\.)(\d+)\..+')


@dataclass(frozen=True)
class Match:
    """How the tensors of a model match those of a checkpoint.

    Attributes:
        total (int): The number of tensors of the model.
        missing (tuple[str, ...]): Names that the checkpoint does not have.
        clashing (tuple[str, ...]): Names that the checkpoint has with another shape.
        min_share (float): The share of tensors that must match.
    """

    total: int
    missing: tuple[str, ...]
    clashing: tuple[str, ...]
    min_share: float

    @property
    def matched(self) -> int:
        """The number of tensors with equal name and shape."""
        return self.total - len(self.missing) - len(self.clashing)

    @property
    def complete(self) -> bool:
        """Whether all tensors of the model match."""
        return self.matched == self.total

    @property
    def foreign(self) -> bool:
        """Whether the checkpoint is of another network."""
        return self.matched < self.min_share * self.total or (
            len(self.clashing) > MAX_CLASHES * self.total
        )

    def __str__(self) -> str:
        text = f'{self.matched} of {self.total} tensors match'
        for what, names in (('missing', self.missing), ('of another shape', self.clashing)):
            if names:
                text += f', {len(names)} {what} (such as {names[0]})'
        return text


def match_state_dicts(
    model: Mapping[str, Tensor],
    checkpoint: Mapping[str, Tensor],
    prefix: str = '',
    min_share: float = MIN_SHARE_OF_DENSE,
) -> Match:
    """Compare names and shapes.

    Args:
        model (Mapping[str, Tensor]): The model's state dict.
        checkpoint (Mapping[str, Tensor]): The checkpoint's state dict.
        prefix (str): The prefix of the model's names in the checkpoint. Defaults to ''.
        min_share (float): The share of tensors that must match. Defaults to 0.45.

    Returns:
        Match: ``num_batches_tracked``, which old checkpoints do not have, is not counted.
    """
    names = [name for name in model if not name.endswith('num_batches_tracked')]
    missing = tuple(name for name in names if prefix + name not in checkpoint)
    clashing = tuple(
        name
        for name in names
        if name not in missing and checkpoint[prefix + name].shape != model[name].shape
    )
    return Match(len(names), missing, clashing, min_share)


def judge(model: nn.Module, state_dict: Mapping[str, Tensor], prefix: str = '') -> Match:
    """Compare the MoD backbones of a model with a checkpoint, or the whole model if it has none.

    Names of other toolboxes are translated. A dense checkpoint may lack the MoD blocks and the last
    blocks of longer ResNet stages. Other parts of the model may be missing, because a new head is
    usual in fine-tuning.

    Args:
        model (nn.Module): A whole model or a backbone; it is not changed.
        state_dict (Mapping[str, Tensor]): The checkpoint's state dict.
        prefix (str): The prefix of the model's names in it. Defaults to ''.

    Returns:
        Match: ``foreign`` is true for a checkpoint of another network. If there are several
        backbones, the worst match.
    """
    given = tensors_under(state_dict, prefix)
    backbones = mod_backbones(model)
    if not backbones:
        return match_state_dicts(model.state_dict(), given)
    matches = [
        judge_backbone(backbone, given, f'{name}.' if name else '')
        for name, backbone in backbones.items()
    ]
    return min(matches, key=lambda match: (not match.foreign, match.matched / match.total))


def judge_backbone(network: nn.Module, given: dict[str, Tensor], prefix: str) -> Match:
    """Compare one MoD backbone with a state dict, see :func:`judge`."""
    rename_tensors(given, network, prefix)
    inside = [name.removeprefix(prefix) for name in given if name.startswith(prefix)]
    own = network.state_dict()
    if not has_mod_blocks(inside):
        fresh = tuple(f'{name}.' for name in named_mod_blocks(network))
        there = {m[1] + m[2] for m in map(STAGE_AND_BLOCK.fullmatch, inside) if m}

        def is_expected(name: str) -> bool:
            block = STAGE_AND_BLOCK.fullmatch(name)
            is_beyond = block and block[1] + '0' in there and block[1] + block[2] not in there
            return not name.startswith(fresh) and not is_beyond

        own = {name: tensor for name, tensor in own.items() if is_expected(name)}
    return match_state_dicts(own, given, prefix, MIN_SHARE)


def mod_backbones(model: nn.Module) -> dict[str, nn.Module]:
    """The MoD backbones in a model by name; '' is the model itself."""
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, 'blocks_of_stages')
    }


def named_mod_blocks(network: nn.Module) -> dict[str, MoDBlock]:
    """The MoD blocks in a network by name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, MoDBlock)}


def has_mod_blocks(names: Iterable[str]) -> bool:
    """Whether a state dict with these names is of a network with MoD blocks."""
    return any('.conv_block.' in name for name in names)


def load_pretrained(network: nn.Module, checkpoint: str, prefix: str | None = None) -> None:
    """Load a checkpoint of the same MoD network, or those tensors of a dense one that fit.

    MoD backbones call this for ``init_cfg=dict(type='Pretrained', ...)``.

    Args:
        network (nn.Module): An MoD backbone of any family; changed in place.
        checkpoint (str): A file or a URL, see :func:`read_checkpoint`.
        prefix (str, optional): The prefix of the network's keys, such as 'backbone.'. Defaults to
            None: it is detected.

    Raises:
        UserError: If it is of another network. The weights are not changed then.
    """
    state_dict = read_state_dict(checkpoint)
    name = type(network).__name__
    chosen = find_prefix(network, state_dict) if prefix is None else normal_prefix(prefix)
    match = judge(network, state_dict, chosen)
    if match.foreign:
        raise UserError(
            f'{name}: the checkpoint {checkpoint} is of another network: {match}; it holds '
            f'{describe_contents(state_dict)}; use a matching one, or set or remove the prefix in '
            'init_cfg'
        )
    inside = tensors_under(state_dict, chosen)
    load_state_dict(network, inside, strict=False, logger='current')
    if not has_mod_blocks(inside):  # MoD blocks keep random weights, so they must be trained
        for mod_block in named_mod_blocks(network).values():
            mod_block.requires_grad_(True)
    under = f' under {chosen!r}' if chosen else ''
    print_log(f'{name} starts from {checkpoint}{under}: {match}', logger='current')
    if hasattr(network, '_params_init_info'):  # mmengine's record of the initialisations
        update_init_info(network, f'Pretrained: from {checkpoint}')


def find_prefix(network: nn.Module, state_dict: Mapping[str, Tensor]) -> str:
    """Detect the prefix of a network in a state dict; returns '' if it is ambiguous."""
    counts = Counter(
        there.removesuffix(name)
        for name in network.state_dict()
        for there in state_dict
        if there.endswith(name)
    )
    likely = [prefix for prefix, _ in counts.most_common(MAX_PREFIXES)]
    fitting = [
        prefix
        for prefix in likely
        if f'.{prefix}'.endswith('.') and not judge(network, state_dict, prefix).foreign
    ]
    return leading_prefix(fitting) or ''


def describe_contents(names: Iterable[str]) -> str:
    """Name the networks in a state dict for an error, or show its keys if there are none."""
    names = list(names)
    kind = 'a {}-MoD' if has_mod_blocks(names) else 'a dense {}'
    if found := [(kind.format(family.name), prefix) for family, prefix in networks_in(names)]:
        return ' and '.join(f'{what} under {p!r}' if p else what for what, p in found)
    first = list(dict.fromkeys(name.split('.')[0] for name in names))
    shown = ', '.join(first[:MAX_SHOWN]) + (', ...' if len(first) > MAX_SHOWN else '')
    return f'{len(names)} tensors of {shown}'
