"""How much of a model a checkpoint covers.

mmengine loads with ``strict=False``: a checkpoint of another network, or one whose keys carry
another prefix, fills nothing and only warns. Training then starts from scratch unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

MIN_SHARE = 0.5


@dataclass(frozen=True)
class Match:
    """The tensors of a model against those of a checkpoint.

    Attributes:
        matched (int): Tensors of the model with a partner of equal name and shape.
        total (int): Tensors of the model.
        missing (tuple[str, ...]): Names of those without a partner.
    """

    matched: int
    total: int
    missing: tuple[str, ...]

    @property
    def share(self) -> float:
        """Matched share of the model's tensors, from 0 to 1."""
        return self.matched / max(self.total, 1)

    def __str__(self) -> str:
        examples = ', '.join(self.missing[:3])
        return f'{self.matched} of {self.total} tensors of the model are in it' + (
            f' (missing or of another shape: {examples}, ...)' if self.missing else ''
        )


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
    missing = tuple(
        name
        for name in names
        if getattr(checkpoint.get(prefix + name), 'shape', None) != model[name].shape
    )
    return Match(len(names) - len(missing), len(names), missing)


@contextmanager
def refuse_foreign_checkpoints(module: nn.Module) -> Iterator[None]:
    """Within it, loading a state dict into ``module`` fails loudly if less than half matches.

    Args:
        module (nn.Module): The module whose ``init_weights`` may load a checkpoint.

    Raises:
        ValueError: If a state dict covers less than half of the module's tensors.
    """

    def check(state_dict, prefix, *_) -> None:
        match = match_state_dicts(module.state_dict(), state_dict, prefix)
        if match.share < MIN_SHARE:
            raise ValueError(
                f'{type(module).__name__}: the checkpoint is of another network: {match}; '
                'give a matching one, or the right prefix in init_cfg, or none'
            )

    hook = module._register_load_state_dict_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()
