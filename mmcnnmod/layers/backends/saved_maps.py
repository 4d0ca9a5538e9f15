"""Training without a second map: an MoD block may write into a map that the block before saved.

The last ReLU of a block saves its output for the backward pass. An MoD block that writes its sum
into a copy makes that two full maps, which differ in k of C channels. Instead it writes into the
map itself, keeps the k old channels, and whoever reads what was saved gets them back. That costs
no copy where the fused map has had its last reader by then, as in every ordinary backward pass:
the old channels are put back in place. Otherwise, as with ``retain_graph=True``, into a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch._C import _autograd
from torch.autograd.graph import saved_tensors_hooks

from .holders import holders, nobody_else, shares_memory


class Saved:
    """A tensor that a block saved for its backward pass.

    Args:
        tensor (Tensor): As it was saved.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version = tensor, tensor._version
        self.where = self.old = None

    def fits(self, x: Tensor) -> bool:
        """Whether a map that shares the memory is still what was saved, in the same places."""
        mine, unchanged = self.tensor, self.tensor._version == self.version
        places = (x.shape, x.stride(), x.data_ptr())
        return unchanged and places == (mine.shape, mine.stride(), mine.data_ptr())

    def overwritten(self, fused: Tensor, where: tuple, old: Tensor) -> None:
        """Keep the old channels of a map that became the fused one."""
        self.tensor = fused.detach()  # it counts changes of the fused map, which must stay now
        self.where, self.old, self.version = where, old, fused._version

    def read(self) -> Tensor:
        """The tensor as it was saved."""
        # As torch does, which leaves it to those who pack.
        if self.tensor._version != self.version:
            what = 'a tensor' if self.old is None else 'the output of an MoD block'
            raise RuntimeError(
                f'{what} was modified by an in-place operation, but the backward pass needs it; '
                "clone it first, or choose backend='reference'"
            )
        if self.old is None:
            return self.tensor
        tensor, self.tensor = self.tensor, None
        unread = holders(tensor) == nobody_else()
        self.tensor = tensor
        restored = tensor if unread else tensor.clone()
        with torch.no_grad():
            restored[self.where] = self.old
        if unread:
            self.old, self.version = None, restored._version
        return restored


class SavedMaps:
    """What the last watched block of a stage saved."""

    def __init__(self) -> None:
        self.saved = None

    @contextmanager
    def catch(self, wanted: bool) -> Iterator[None]:
        """If wanted and possible, what is saved within it may change afterwards.

        It is not possible where somebody else watches, such as a checkpoint.
        """
        self.saved = [] if wanted and may_watch() else None
        with nullcontext() if self.saved is None else saved_tensors_hooks(self.pack, Saved.read):
            yield

    def pack(self, tensor: Tensor) -> Saved:
        """Remember a tensor, without its history: of an output that would be a circle."""
        self.saved.append(Saved(tensor.detach()))
        return self.saved[-1]

    def of(self, x: Tensor) -> list[Saved] | None:
        """What was saved of a map; None if that is not known, or if parts of it were."""
        saved, self.saved = self.saved, None
        found = [one for one in saved or () if shares_memory(one.tensor, x)]
        return found if saved is not None and all(one.fits(x) for one in found) else None


def may_watch() -> bool:
    """Whether nobody else does, as far as torch can tell."""
    top = getattr(_autograd, '_top_saved_tensors_default_hooks', None)
    return top is not None and _autograd._saved_tensors_hooks_is_enabled() and top(False) is None
