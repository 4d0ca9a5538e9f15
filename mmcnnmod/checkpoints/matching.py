"""How much of a model a checkpoint covers.

mmengine loads with ``strict=False``: a checkpoint of another network, or one whose keys carry
another prefix, fills nothing and only warns. Training then starts from scratch unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ..layers import MoDBlock
from .remap import rename_tensors

# Of an MoD backbone, and of a model without one, of which a new head may be the larger part. A name
# that is there in another shape tells another architecture, but a new stem or classifier, some few
# tensors, is how fine-tuning begins.
MIN_SHARE = 0.8
MIN_SHARE_OF_DENSE = 0.45
MAX_CLASHES = 0.05
# A block of a ResNet's stage.
STAGE_AND_BLOCK = re.compile(r'(layer\d+\.)(\d+)\..+')


@dataclass(frozen=True)
class Match:
    """The tensors of a model against those of a checkpoint.

    Attributes:
        total (int): Tensors of the model.
        missing (tuple[str, ...]): Those whose name the checkpoint does not have.
        clashing (tuple[str, ...]): Those that it has in another shape.
        min_share (float): What must match, unless the checkpoint is of another network.
    """

    total: int
    missing: tuple[str, ...]
    clashing: tuple[str, ...]
    min_share: float = MIN_SHARE_OF_DENSE

    @property
    def matched(self) -> int:
        """Tensors with a partner of equal name and shape."""
        return self.total - len(self.missing) - len(self.clashing)

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model has its partner."""
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
    model: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor], prefix: str = ''
) -> Match:
    """Compare names and shapes.

    Args:
        model (Mapping[str, Tensor]): The model's state dict.
        checkpoint (Mapping[str, Tensor]): The checkpoint's state dict.
        prefix (str): What stands before the model's names in the checkpoint. Defaults to ''.

    Returns:
        Match: Counters of BatchNorm batches are left out: old checkpoints have none.
    """
    names = [name for name in model if not name.endswith('num_batches_tracked')]
    missing = tuple(name for name in names if prefix + name not in checkpoint)
    clashing = tuple(
        name
        for name in names
        if name not in missing and checkpoint[prefix + name].shape != model[name].shape
    )
    return Match(len(names), missing, clashing)


def judge(model: nn.Module, state_dict: Mapping[str, Tensor], prefix: str = '') -> Match:
    """Compare a model's MoD backbones with a checkpoint, or all of it if it has none.

    A dense checkpoint has nothing for MoD blocks, and nothing for the last blocks of a ResNet's
    stage that is longer than its own; those are not missed. Other toolboxes' names are known. What
    is no backbone may be missing: a new head is how fine-tuning begins.

    Args:
        model (nn.Module): A whole model or a backbone; it is not changed.
        state_dict (Mapping[str, Tensor]): The checkpoint's state dict.
        prefix (str): What stands before the model's names in it. Defaults to ''.

    Returns:
        Match: ``foreign`` tells whether the checkpoint is of another network; of several backbones
        it is the one that matches least.
    """
    given = {n.removeprefix(prefix): t for n, t in state_dict.items() if n.startswith(prefix)}
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
        fresh = tuple(f'{n}.' for n, m in network.named_modules() if isinstance(m, MoDBlock))
        there = {m[1] + m[2] for m in map(STAGE_AND_BLOCK.fullmatch, inside) if m}

        def comes_along(name: str) -> bool:
            block = STAGE_AND_BLOCK.fullmatch(name)
            is_beyond = block and block[1] + '0' in there and block[1] + block[2] not in there
            return not name.startswith(fresh) and not is_beyond

        own = {name: tensor for name, tensor in own.items() if comes_along(name)}
    return replace(match_state_dicts(own, given, prefix), min_share=MIN_SHARE)


def mod_backbones(model: nn.Module) -> dict[str, nn.Module]:
    """The MoD backbones in a model, by name; '' is the model itself."""
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, 'blocks_of_stages')
    }


def has_mod_blocks(names: Iterable[str]) -> bool:
    """Whether a state dict with these names is of a network with MoD blocks."""
    return any('.conv_block.' in name for name in names)
