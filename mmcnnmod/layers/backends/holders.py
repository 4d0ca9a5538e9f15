"""Who else holds a tensor."""

from __future__ import annotations

import sys

import torch
from torch import Tensor


def holders(x: Tensor) -> tuple[int, ...]:
    """How many hold a tensor, its memory (each alias does), and torch's object for that memory.

    To be compared with :func:`nobody_else`, in the function whose local variable the tensor is.
    """
    if count_aliases is None:
        return ()
    storage = x.untyped_storage()
    return sys.getrefcount(x), count_aliases(storage._cdata), sys.getrefcount(storage)


def nobody_else(aliases: int = 0) -> tuple[int, int, int] | None:
    """What :func:`holders` gives of a tensor that is one local variable's alone.

    Args:
        aliases (int): How many others, that are known, hold the memory, each as a tensor of its
            own. Defaults to 0.

    Returns:
        tuple[int, int, int] | None: None, which no count equals, where torch or Python do not
        count.
    """
    if LOCAL is None:
        return None
    tensor, memory, storage = LOCAL
    return tensor, memory + aliases, storage


def shares_memory(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors have the same memory, be it other parts of it."""
    return x.untyped_storage()._cdata == y.untyped_storage()._cdata


def count_local() -> tuple[int, int, int] | None:
    """Count the holders of a local variable; None if that is not possible or not the same twice."""
    counts = set()
    for _ in range(2):
        x = torch.empty(1)
        counts.add(holders(x))
    return next(iter(counts)) or None if len(counts) == 1 else None


# Of torch's inner parts, which a torch to come may not have.
count_aliases = getattr(torch._C, '_storage_Use_Count', None)
# From Python 3.14 on a local variable need not count.
LOCAL = count_local() if sys.version_info < (3, 14) else None
