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

    Counted anew every time: once torch.compile has run in a process, calls hold one more.

    Args:
        aliases (int): How many others, that are known, hold the memory, each as a tensor of its
            own. Defaults to 0.

    Returns:
        tuple[int, int, int] | None: None, which no count equals, where torch or Python do not
        count.
    """
    if count_aliases is None or sys.version_info >= (3, 14):  # there local variables need not count
        return None
    x = torch.empty(1)
    tensor, memory, storage = holders(x)
    return tensor, memory + aliases, storage


def shares_memory(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors have the same memory, be it other parts of it."""
    return x.untyped_storage()._cdata == y.untyped_storage()._cdata


# Of torch's inner parts, which a torch to come may not have.
count_aliases = getattr(torch._C, '_storage_Use_Count', None)
