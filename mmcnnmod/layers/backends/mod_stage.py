"""A stage with MoD blocks: it knows which maps are its own, and lets MoD blocks write into them."""

from __future__ import annotations

from functools import lru_cache
from itertools import zip_longest

import torch
from torch import Tensor, nn

from ..mod_block import MoDBlock
from .holders import holders, nobody_else, shares_memory
from .saved_maps import SavedMaps
from .switch import Way, fast_way, is_traced, must_be_defined


class MoDStage:
    """Mixin for a stage, an ``nn.Sequential``.

    An MoD block changes k of C channels, and a copy of the other C - k costs more than all that it
    computes. The map between two blocks of a stage is of no use to anyone else, so the MoD block
    may add to it in place; unless somebody holds it. That is looked up, for there are many ways: a
    forward hook that keeps a feature, or an alias of one; the stage's input, which is the output
    that the stage before handed out, or what a checkpoint saved. With gradients the block before
    has saved the map for its backward pass; see :mod:`mmcnnmod.layers.backends.saved_maps`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks.

        Args:
            x (Tensor): Shape (N, C, H, W). It is not changed.

        Returns:
            Tensor: The last block's output.
        """
        if is_traced(x):
            return super().forward(x)
        if torch.is_grad_enabled():
            return self.forward_with_gradients(x)
        # All at once: between two blocks, with cold caches, a decision takes ten times as long.
        for block, way in [(block, way_of(block, x)) for block in self]:
            alone = way is not None and type(x) is Tensor and holders(x) == nobody_else()
            x = way(block, x, alone) if way else block(x)
        return x

    def forward_with_gradients(self, x: Tensor) -> Tensor:
        """The same; what the block before saved of a map is told which channels change."""
        maps = SavedMaps()
        blocks = list(self)
        for block, following in zip_longest(blocks, blocks[1:]):
            saved = maps.of(x) if may_overwrite_saved(block) else None
            own = saved is not None and type(x) is Tensor
            own = own and holders(x) == nobody_else(aliases=len(saved))
            way = way_of(block, x) if own else None
            with maps.catch(may_overwrite_saved(following)):
                if way is None:
                    x = block(x)
                    continue
                where = block.fusion.places(None)
                old = x.detach()[where].clone()
                fused = way(block, x, True)
            if shares_memory(x, fused):
                for one in saved:
                    one.overwritten(fused, where, old)
            x = fused
        return x

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Copies and pickles: the class is made at run time, so its toolbox's class is named."""
        return make_stage, (self.container,), self.__dict__


@lru_cache(None)
def stage_class(container: type[nn.Sequential]) -> type[nn.Sequential]:
    """The class of stages for a toolbox's class of them."""
    names = {'__module__': container.__module__, 'container': container}
    return type(container.__name__, (MoDStage, container), names)


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


def way_of(block: nn.Module, x: Tensor) -> Way | None:
    """How the stage computes a block by itself; None where the block is to be called."""
    return fast_way(block, x) if isinstance(block, MoDBlock) and not block.with_cp else None


def may_overwrite_saved(block: nn.Module | None) -> bool:
    """Whether it is known before it runs which channels it changes: the first or the last k."""
    return (
        isinstance(block, MoDBlock)
        and not must_be_defined(block)
        and block.fusion.position != 'original'
    )
