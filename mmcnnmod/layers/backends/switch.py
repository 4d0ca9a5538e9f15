"""Which way MoD blocks are computed: the switch between their definition and the fast paths.

- 'reference': the definition, section 3 of the paper, every step one operation or module.
- 'eager': plain PyTorch, with fewer operations and, where nobody else holds the map, without a
  copy of it; in training with gradients that are summed in one map.
- 'triton': a few kernels for CUDA, for inference; see ``triton_block``. Only if asked for.
- 'native': one operator for CPUs, for inference, also within torch.compile; see ``native_block``.
  Only if asked for.
- 'auto', the default: eager, unless a hook, a wrapper or a compiler looks on.

The environment variable MMCNNMOD_BACKEND names one for the process; an MoD block's own ``backend``
comes before it. Where a way is not possible, the next one is taken: triton or native, eager,
definition.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..checks import check_choice
from . import compiled_block, eager_block, native_block, training_block, triton_block

# Only if asked for: no GPU has run Triton's kernels yet, and a C++ compiler is not to be started in
# somebody's first forward.
OPTIONAL = {'triton': triton_block, 'native': native_block}
BACKENDS = ('auto', 'reference', 'eager', *OPTIONAL)
VARIABLE = 'MMCNNMOD_BACKEND'
HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')
HOOKS_OF_ALL = tuple(getattr(torch_module, f'_global{kind}') for kind in HOOKS)
NEW_TORCH = hasattr(torch.compiler, 'is_compiling')
Way = Callable[[nn.Module, Tensor, bool], Tensor]

chosen = os.environ.get(VARIABLE, 'auto')
said: list[str] = []


def choose_backend(name: str) -> None:
    """Choose how the MoD blocks of this process are computed from now on.

    Args:
        name (str): One of ``BACKENDS``.

    Raises:
        ValueError: If it is none of them.
    """
    global chosen
    check_choice('MoD', 'backend', name, BACKENDS)
    chosen = name


def check_chosen() -> None:
    """Raise ValueError if the environment variable names none; an import is no place for that."""
    check_choice(VARIABLE, 'backend', chosen, BACKENDS)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within it, MoD blocks are computed so; see :func:`choose_backend`."""
    before = chosen
    choose_backend(name)
    try:
        yield
    finally:
        choose_backend(before)


def fast_way(block: nn.Module, x: Tensor) -> Way | None:
    """How to compute an MoD block on a map faster than by its definition.

    Args:
        block (nn.Module): An MoD block.
        x (Tensor): Its input.

    Returns:
        Callable | None: From the block, its input and whether the input may become the result, to
        the result. None for the definition.
    """
    asked = block.backend or chosen
    # Compilers and exporters make one map of the definition's copy and sum by themselves.
    if is_traced(x) and not is_dynamo():
        return by_definition(asked, 'an exporter or a transform looks on')
    if must_be_defined(block):
        return by_definition(asked, 'a hook looks on, or a wrapper or a subclass changes it')
    way = None if is_dynamo() else eager_block.forward
    if wants_gradients(block, x):
        training = compiled_block if is_dynamo() else training_block
        way = training.forward if training.covers(block) else None
    if asked in OPTIONAL:
        return partial(optional_way, asked, way)
    return way or by_definition(asked, 'it is compiled, or a variant that is trained')


def by_definition(asked: str, reason: str) -> None:
    """No faster way; said if one was asked for by its name."""
    if asked not in ('auto', 'reference'):
        say_once(f'MoD blocks are computed by their definition, not by {asked}: {reason}')


def optional_way(
    name: str, other: Way | None, block: nn.Module, x: Tensor, overwrite: bool
) -> Tensor:
    """A way that not every machine and not every map has; else another, or the definition."""
    reason = OPTIONAL[name].why_not(block, x)
    if reason is None:
        return OPTIONAL[name].forward(block, x, overwrite)
    say_once(f'MoD blocks are computed by plain PyTorch, not by {name}: {reason}')
    return block.define(x) if other is None else other(block, x, overwrite)


def must_be_defined(block: nn.Module) -> bool:
    """Whether an MoD block is computed by its definition, whatever its input."""
    return (block.backend or chosen) == 'reference' or not block.is_original() or is_watched(block)


def is_traced(x: Tensor) -> bool:
    """Whether a compiler, an exporter, a transform or a tensor of another kind looks on."""
    return (
        is_compiling()
        or torch.jit.is_tracing()
        or type(x) not in (Tensor, nn.Parameter)
        or is_transforming()
        or getattr(torch.autograd.forward_ad, '_current_level', 0) >= 0
    )


def is_compiling() -> bool:
    """Whether torch.compile or torch.export is looking."""
    # torch 2.1 has it elsewhere.
    return torch.compiler.is_compiling() if NEW_TORCH else torch._dynamo.is_compiling()


def is_dynamo() -> bool:
    """Whether it is torch.compile, which can call operators of ours; exporters cannot."""
    return NEW_TORCH and torch.compiler.is_dynamo_compiling() and not is_exporting()


# As a constant: within a graph torch's own function is always true.
@torch.compiler.assume_constant_result
def is_exporting() -> bool:
    """Whether torch.export is looking."""
    return getattr(torch.compiler, 'is_exporting', bool)()


def is_watched(block: nn.Module) -> bool:
    """Whether hooks see what only the definition computes, or an input that they may keep."""
    # Loops: at batch 1 the generators of an `any` are seen in a network's time.
    for hooks in HOOKS_OF_ALL:
        if hooks:
            return True
    for module in block.watchable():
        for kind in HOOKS:
            if getattr(module, kind):
                return True
    return False


def wants_gradients(block: nn.Module, x: Tensor) -> bool:
    """Whether autograd records the block."""
    return torch.is_grad_enabled() and (
        x.requires_grad or any(parameter.requires_grad for parameter in block.parameters())
    )


# To a compiler it is a constant: a graph that is traced once logs once.
@torch.compiler.assume_constant_result
def say_once(message: str) -> None:
    """As :func:`log_once`, also within torch.compile."""
    log_once(message)


def log_once(message: str) -> None:
    """Log a line the first time that it is asked for."""
    if message not in said:
        said.append(message)
        print_log(message, logger='current', level=logging.INFO)


# Whether torch.func is at work; a torch that cannot tell gets the definition.
is_transforming = getattr(torch._C, '_are_functorch_transforms_active', lambda: True)
