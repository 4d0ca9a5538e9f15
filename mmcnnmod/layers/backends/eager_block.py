"""An MoD block without gradients, in plain PyTorch: fewer operations, at most one copy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..channel_selector import ChannelSelector
from ..fusion import per_sample


def forward(block: nn.Module, x: Tensor, overwrite: bool) -> Tensor:
    """What ``block.define`` computes.

    Args:
        block (nn.Module): An MoD block.
        x (Tensor): Its input, shape (N, C, H, W).
        overwrite (bool): The input may become the result.

    Returns:
        Tensor: The fused map, shape (N, C, H, W).
    """
    index, scores = select(block.selector, x)
    processed = block.drop_path(block.conv_block(x[channels(index)]))
    fused = x if overwrite else x.clone()
    add_to(fused, processed, scores, index, block.fusion)
    return fused


def select(selector: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the selector gives, without its guard against autocasting where there is none."""
    if is_autocasting() or not isinstance(selector, ChannelSelector):
        return selector(x)
    return selector.best(selector.score(x.mean((2, 3))))


def channels(index: Tensor) -> tuple:
    """The index expression of the chosen channels.

    At batch 1 the row of the samples' numbers would take as long as what it is for.
    """
    return (slice(None), index[0]) if len(index) == 1 else per_sample(index)


def add_to(
    x: Tensor, processed: Tensor, scores: Tensor | None, index: Tensor, fusion: nn.Module
) -> None:
    """Weight the processed channels and fuse them into a map, in place."""
    where = fusion.places(index)
    weight = None if scores is None else scores.to(processed.dtype)[:, :, None, None]
    plain = fusion.mode == 'add' and isinstance(fusion.activation, nn.Identity)
    if plain and fusion.position != 'original' and weight is not None:
        x[where].addcmul_(processed, weight)
        return
    processed = (processed if weight is None else processed * weight).to(x.dtype)
    x[where] = fusion.activation(processed if fusion.mode == 'replace' else x[where] + processed)


# A torch that cannot tell gets the guard.
is_autocasting = getattr(torch._C, '_is_any_autocast_enabled', lambda: True)
