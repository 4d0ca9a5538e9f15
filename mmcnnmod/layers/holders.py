"""Who else holds a tensor."""

from __future__ import annotations

import sys

import torch
from torch import Tensor


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


def nobody_else(aliases: int = 0) -> tuple[int, int, int]:
    """The same, if others that are known hold the memory, each as a tensor of its own."""
    tensor, memory, storage = LOCAL
    return tensor, memory + aliases, storage


def shares_memory(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors have the same memory, be it other parts of it."""
    return x.untyped_storage()._cdata == y.untyped_storage()._cdata


LOCAL = holders_of_a_local()
NOBODY_ELSE = nobody_else()
