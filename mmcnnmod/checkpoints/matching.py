"""How much of a model a checkpoint covers.

mmengine loads with ``strict=False``: a checkpoint of another network, or one whose keys carry
another prefix, fills nothing and only warns. Training then starts from scratch unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import UserError

# A dense ResNet fills 50 to 57% of the ResNet-MoD of its depth: the standard blocks. A name that is
# there in another shape tells another architecture, but a new stem or classifier, some few
# tensors, is how fine-tuning begins.
MIN_SHARE = 0.45
MAX_CLASHES = 0.05


@dataclass(frozen=True)
class Match:
    """The tensors of a model against those of a checkpoint.

    Attributes:
        total (int): Tensors of the model.
        missing (tuple[str, ...]): Those whose name the checkpoint does not have.
        clashing (tuple[str, ...]): Those that it has in another shape.
    """

    total: int
    missing: tuple[str, ...]
    clashing: tuple[str, ...]

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
        return self.matched < MIN_SHARE * self.total or (
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


@contextmanager
def refuse_foreign_checkpoints(module: nn.Module) -> Iterator[None]:
    """Within it, loading another network's state dict into ``module`` fails loudly.

    Args:
        module (nn.Module): The module whose ``init_weights`` may load a checkpoint.

    Raises:
        UserError: If a state dict is of another network.
    """

    def check(state_dict, prefix, *_) -> None:
        match = match_state_dicts(module.state_dict(), state_dict, prefix)
        if match.foreign:
            raise UserError(
                f'{type(module).__name__}: the checkpoint is of another network: {match}; '
                'give a matching one, or the right prefix in init_cfg, or none'
            )

    hook = module._register_load_state_dict_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()
