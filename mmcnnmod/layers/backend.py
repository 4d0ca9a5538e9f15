"""How MoD blocks are computed: the switch between the plain definition and the fast paths.

The environment variable MMCNNMOD_BACKEND names one, read when this module is loaded:

- 'reference': section 3 of the paper, word for word: every step one operation or module.
- 'eager': the same function with fewer operations, and without a copy of the map where nobody else
  holds it.
- 'auto', the default: the fastest that the situation allows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

BACKENDS = ('auto', 'reference', 'eager')
VARIABLE = 'MMCNNMOD_BACKEND'

chosen = 'auto'


def choose_backend(name: str) -> None:
    """Choose how all MoD blocks of this process are computed from now on.

    Args:
        name (str): One of ``BACKENDS``.

    Raises:
        ValueError: If it is none of them.
    """
    global chosen
    if name not in BACKENDS:
        raise ValueError(f'unknown backend {name!r}; choose from {", ".join(BACKENDS)}')
    chosen = name


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within it, MoD blocks are computed so; see :func:`choose_backend`."""
    before = chosen
    choose_backend(name)
    try:
        yield
    finally:
        choose_backend(before)


def is_reference() -> bool:
    """Whether the plain definition is asked for; a tracer gets it too, for it counts or exports."""
    return chosen == 'reference' or torch.jit.is_tracing()


def is_compiling() -> bool:
    """Whether torch.compile is looking: it plans memory itself."""
    return torch._dynamo.is_compiling() if OLD_TORCH else torch.compiler.is_compiling()


OLD_TORCH = not hasattr(torch.compiler, 'is_compiling')
try:
    choose_backend(os.environ.get(VARIABLE, chosen))
except ValueError as problem:
    raise ValueError(f'{VARIABLE}: {problem}') from None
