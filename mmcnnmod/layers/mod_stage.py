"""A stage with MoD blocks: it knows which maps are its own, and lets MoD blocks write into them."""

from __future__ import annotations

import sys
from functools import lru_cache

import torch
from torch import Tensor, nn

from .backend import is_traced
from .mod_block import MoDBlock


class MoDStage:
    """Mixin for a stage, an ``nn.Sequential``.

    An MoD block changes k of C channels, and a copy of the other C - k costs more than all that it
    computes. Without gradients the map between two blocks of a stage is of no use to anyone else,
    so the MoD block may add to it in place; unless somebody holds it. That is looked up, for there
    are many ways: a forward hook that keeps a feature, or an alias of one; the stage's input,
    which is the output that the stage before handed out, or what a checkpoint saved.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks.

        Args:
            x (Tensor): Shape (N, C, H, W). It is not changed.

        Returns:
            Tensor: The last block's output.
        """
        if torch.is_grad_enabled() or is_traced(x):
            return super().forward(x)
        for block in self:
            if isinstance(block, MoDBlock) and holders(x) == NOBODY_ELSE:
                x = block(x, overwrite=True)
            else:
                x = block(x)
        return x

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Copies and pickles: the class is made at run time, so its toolbox's class is named."""
        return make_stage, (type(self).__mro__[2],), self.__dict__


@lru_cache(None)
def stage_class(container: type[nn.Sequential]) -> type[nn.Sequential]:
    """The class of stages for a toolbox's class of them."""
    return type(container.__name__, (MoDStage, container), {'__module__': container.__module__})


def make_stage(container: type[nn.Sequential]) -> nn.Sequential:
    """An empty stage."""
    stage = stage_class(container)
    return stage.__new__(stage)


def become_mod_stage(container: nn.Module) -> None:
    """Make a container of blocks an MoD stage, in place; if it does more than run them, it stays.

    Args:
        container (nn.Module): Of a toolbox.
    """
    plain = getattr(type(container), 'forward', None) is nn.Sequential.forward
    if plain and not isinstance(container, MoDStage):
        container.__class__ = stage_class(type(container))


def holders(x: Tensor) -> tuple[int, int, int]:
    """How many hold a tensor, its memory (each alias does), and torch's object for that memory."""
    storage = x.untyped_storage()
    return (
        sys.getrefcount(x),
        torch._C._storage_Use_Count(storage._cdata),
        sys.getrefcount(storage),
    )


def holders_of_a_local() -> tuple[int, int, int]:
    """What :func:`holders` counts if a tensor is one local variable's alone."""
    x = torch.empty(1)
    return holders(x)


NOBODY_ELSE = holders_of_a_local()
