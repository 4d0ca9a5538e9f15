"""The fusion of the processed channels with the full map (Section 3.3, equations 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

POSITIONS = ('first', 'last', 'original')
FUSIONS = ('add', 'replace')


class Fusion(nn.Module):
    """Adds the k processed channels to k channels of the input (1) and keeps the others (2).

    Args:
        in_channels (int): C, the channels of the input.
        k (int): Number of processed channels.
        position (str): Where the processed channels are added: to the 'first' k channels (equation
            1), the 'last' k (Table 8) or their 'original' channels (Table 10, "OP"). Defaults to
            'first'.
        mode (str): 'add' to those channels, or 'replace' them (Section 3.3). Defaults to 'add'.
    """

    def __init__(
        self, in_channels: int, k: int, position: str = 'first', mode: str = 'add'
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.k = k
        self.position = position
        self.mode = mode

    def forward(self, x: Tensor, processed: Tensor, index: Tensor) -> Tensor:
        """Fuse the processed channels with the input.

        Args:
            x (Tensor): The block's input, shape (N, C, H, W). It is not changed.
            processed (Tensor): The Conv-Block's output times the scores, shape (N, k, H, W).
            index (Tensor): The channels that were selected, shape (N, k).

        Returns:
            Tensor: The fused map, with the shape, dtype and memory format of ``x``. With k = 1 and
            ``mode='replace'`` it is contiguous, because the format of one channel is ambiguous.
        """
        processed = processed.to(x.dtype)
        num_others = self.in_channels - self.k
        if self.position == 'first':
            channels, others = x.split([self.k, num_others], dim=1)
            return torch.cat([self.combine(channels, processed), others], dim=1)
        if self.position == 'last':
            others, channels = x.split([num_others, self.k], dim=1)
            return torch.cat([others, self.combine(channels, processed)], dim=1)
        target_index = index[:, :, None, None].expand_as(processed)
        fused = x.clone()  # keeps the memory format, unlike scatter
        if self.mode == 'replace':
            return fused.scatter_(1, target_index, processed)
        return fused.scatter_add_(1, target_index, processed)

    def combine(self, channels: Tensor, processed: Tensor) -> Tensor:
        """Add the processed channels to k channels of the input, or replace them."""
        return processed if self.mode == 'replace' else channels + processed

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f'k={self.k}, position={self.position!r}, mode={self.mode!r}'
