"""Whether a tracer, an exporter or a transform sees what a network computes."""

from __future__ import annotations

import torch
from torch import Tensor

# Before torch 2.4 an operator has no fake for torch.compile.
OLD = not hasattr(torch.library, 'register_fake')
is_compiled = torch._dynamo.is_compiling if OLD else torch.compiler.is_compiling


def is_traced(x: Tensor) -> bool:
    """Whether a map is seen by a tracer, an exporter or a transform; torch.compile is none."""
    if is_compiled():
        return OLD or not torch.compiler.is_dynamo_compiling() or is_exported()
    return (
        type(x) is not Tensor
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._len_torch_dispatch_stack() > 0
    )


# As a constant: within a graph torch's own function is always true.
@torch.compiler.assume_constant_result
def is_exported() -> bool:
    """Whether it is torch.export; older releases cannot tell it from torch.compile."""
    return getattr(torch.compiler, 'is_exporting', bool)()
