"""An MoD block with gradients within torch.compile: a sum with zeros instead of a write.

Inductor (torch 2.11, on a CPU) makes C++ of the gradients of writing into a slice that does not
compile. A sum has gradients that it knows, and it keeps no zeros: it reads them as a condition.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from .training_block import covers as is_the_papers


def covers(block: nn.Module) -> bool:
    """Whether a block is one of the paper's, that adds to its first or last channels."""
    return is_the_papers(block) and block.fusion.position != 'original'


def forward(block: nn.Module, x: Tensor, overwrite: bool = False) -> Tensor:
    """What ``block.define`` computes.

    Args:
        block (nn.Module): An MoD block that :func:`covers` accepts.
        x (Tensor): Its input, shape (N, C, H, W).
        overwrite (bool): Compilers find out by themselves. Defaults to False.

    Returns:
        Tensor: The fused map, shape (N, C, H, W).
    """
    processed = block.process(x)[0].to(x.dtype)
    others = x.shape[1] - block.k
    zeros = (others, 0) if block.fusion.position == 'last' else (0, others)
    return x + pad(processed, (0, 0, 0, 0, *zeros))
