"""The dense network in a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import UserError
from .key_styles import RESNET, VGG, Family, blocks_of_stages, networks_in, normal_prefix
from .matching import has_mod_blocks

# What copies another network or is copied by it, by the names that MoCo, BYOL, DINO, EMA and
# distillation give it.
FOLLOWER = re.compile(r'(^|[._])(encoder_k|key|momentum|target|teacher|ema)([._]|$)')


@dataclass(frozen=True)
class DenseNetwork:
    """A dense network, whoever wrote it.

    Attributes:
        family (Family): Of which it is.
        tensors (Mapping[str, Tensor]): By their common names, see :mod:`.key_styles`.
        blocks (list[list[str]]): The common names of its blocks, stage by stage.
    """

    family: Family
    tensors: Mapping[str, Tensor]
    blocks: list[list[str]]

    @property
    def depths(self) -> list[int]:
        """Blocks per stage."""
        return [len(names) for names in self.blocks]

    @property
    def bottlenecks(self) -> bool:
        """Whether a ResNet's blocks have three convolutions; basic blocks have two."""
        return 'layer1.0.conv3.weight' in self.tensors

    @property
    def deep_stem(self) -> bool:
        """Whether three convolutions make up a ResNet's stem, as in V1c and V1d."""
        return 'stem.0.conv.weight' in self.tensors

    def __str__(self) -> str:
        name = self.family.name
        if self.family is RESNET:
            name += f'-{sum(self.depths) * (3 if self.bottlenecks else 2) + 2}'
        elif self.family is VGG:
            name += f'-{sum(self.depths) + 3}'
        return f'{name} of {"+".join(map(str, self.depths))} blocks'


def find_dense_network(
    state_dict: Mapping[str, Tensor], family: Family, prefix: str | None = None
) -> DenseNetwork:
    """Find a dense network in a state dict.

    Args:
        state_dict (Mapping[str, Tensor]): Of a backbone or of a whole model.
        family (Family): Of which it has to be.
        prefix (str, optional): What stands before its names. Defaults to None: found out.

    Returns:
        DenseNetwork: With all that stands under the prefix.

    Raises:
        UserError: If there is none or more than one, or if it has MoD blocks already.
    """
    prefix = choose_prefix(state_dict, family, prefix)
    inside = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }
    if has_mod_blocks(inside):
        raise UserError(f"it holds a {family.name}-MoD already: load it with type='Pretrained'")
    tensors = {common: inside[name] for common, name in family.common(inside).items()}
    return DenseNetwork(family, tensors, blocks_of_stages(tensors))


def choose_prefix(names: Iterable[str], family: Family, prefix: str | None) -> str:
    """The prefix of the one network of a family, or the given one if there is a network."""
    names = list(names)
    found = family.prefixes(names)
    shown = ', '.join(map(repr, found))
    if not found:
        others = ' and '.join(f'names as in a {other.name}' for other, _ in networks_in(names))
        raise UserError(
            f'it holds no {family.name}, but {others or f"{len(names)} tensors of something else"}'
        )
    if prefix is not None:
        prefix = normal_prefix(prefix)
        if prefix not in found:
            raise UserError(
                f'it holds no {family.name} under the prefix {prefix!r}, but under {shown}'
            )
        return prefix
    chosen = leading_prefix(found)
    if chosen is not None:
        return chosen
    raise UserError(f'it holds {len(found)} {family.name}s: choose one by prefix, of {shown}')


def leading_prefix(prefixes: Sequence[str]) -> str | None:
    """The prefix that is not a follower's; None if none stands out."""
    # Beside the backbone there may be its moving average, or a teacher.
    leading = [prefix for prefix in prefixes if not FOLLOWER.search(prefix)] or prefixes
    for own in ('', 'backbone.', 'module.backbone.'):
        if own in leading:
            return own
    return leading[0] if len(leading) == 1 else None
