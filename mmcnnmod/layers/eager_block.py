"""An MoD block without gradients, in plain PyTorch: fewer operations, at most one copy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .channel_selector import ChannelSelector
from .fusion import per_sample


def forward(block: nn.Module, x: Tensor, overwrite: bool) -> Tensor:
    """What ``block.define`` computes.

    Args:
        block (nn.Module): An MoD block.
        x (Tensor): Its input, shape (N, C, H, W).
        overwrite (bool): The input may become the result.

    Returns:
        Tensor: The fused map, shape (N, C, H, W).
    """
    if isinstance(block.selector, ChannelSelector):
        index, scores = block.selector.select(mean_of_map(x))
    else:
        index, scores = block.selector(x)
    processed = block.drop_path(block.conv_block(x[per_sample(index)]))
    fused = x if overwrite else x.clone()
    add_to(fused, processed, scores, index, block.fusion)
    return fused


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


def mean_of_map(x: Tensor) -> Tensor:
    """The global average of every channel.

    In channels-last on a CPU the product with a row of 1 / (H * W) takes half as long as a mean
    over two dimensions, which reads the map in another order.

    Args:
        x (Tensor): Feature map of shape (N, C, H, W).

    Returns:
        Tensor: Shape (N, C), dtype of ``x``.
    """
    rows = x.permute(0, 2, 3, 1)
    channels_last = rows.is_contiguous() and not x.is_contiguous()
    exact = x.dtype == torch.float32 and torch.get_float32_matmul_precision() == 'highest'
    if x.device.type != 'cpu' or not channels_last or not exact:
        return x.mean((2, 3))
    size = rows.shape[1] * rows.shape[2]
    with torch.autocast('cpu', enabled=False):
        return torch.matmul(x.new_full((size,), 1 / size), rows.flatten(1, 2))
