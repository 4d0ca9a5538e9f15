"""The fusion: processed channels back into the full map (Section 3.3, equations 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

POSITIONS = ('first', 'last', 'original')
FUSIONS = ('add', 'replace')


class Fusion(nn.Module):
    """Adds the k processed channels to k channels of the input and passes the others on.

    Args:
        k (int): Number of processed channels.
        position (str): Which channels of the input they join: the 'first' k (equation 1), the
            'last' k (Table 8) or their 'original' places (Table 10, "OP"). Defaults to 'first'.
        mode (str): 'add' to those channels, or 'replace' them (Section 3.3). Defaults to 'add'.
        activation (nn.Module, optional): What the k fused channels pass at last, as the sum in a
            residual block does. Defaults to None, nothing.
    """

    def __init__(
        self,
        k: int,
        position: str = 'first',
        mode: str = 'add',
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.k = k
        self.position = position
        self.mode = mode
        self.activation = activation or nn.Identity()

    def forward(self, x: Tensor, processed: Tensor, index: Tensor) -> Tensor:
        """Fuse.

        Args:
            x (Tensor): The block's input, shape (N, C, H, W). It is not changed.
            processed (Tensor): The Conv-Block's output times the scores, shape (N, k, H, W).
            index (Tensor): The channels that were selected, shape (N, k).

        Returns:
            Tensor: Shape, dtype and memory format of ``x``.
        """
        where = self.places(index)
        processed = processed.to(x.dtype)
        fused = x.clone()
        new = processed if self.mode == 'replace' else x[where] + processed
        fused[where] = self.activation(new)
        return fused

    def places(self, index: Tensor) -> tuple:
        """The index expression of the k channels that the processed ones join."""
        if self.position == 'original':
            return per_sample(index)
        return slice(None), slice(self.k) if self.position == 'first' else slice(-self.k, None)

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f'k={self.k}, position={self.position!r}, mode={self.mode!r}'


def per_sample(index: Tensor) -> tuple[Tensor, Tensor]:
    """Index expression for other channels in every sample: ``x[per_sample(index)]``.

    Args:
        index (Tensor): Channels per sample, shape (N, k).

    Returns:
        tuple[Tensor, Tensor]: Sample and channel indices that broadcast to (N, k).
    """
    return torch.arange(len(index), device=index.device)[:, None], index
