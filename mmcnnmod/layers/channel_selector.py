"""The channel selector: which k of the C channels are processed (Section 3.1, Fig. 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .initialization import keep_first_unit_alive

ORDERS = ('score', 'index')


class ChannelSelector(nn.Module):
    """Scores every channel from its global average and picks the k best, per sample.

    Global average pool, a bias-free fully connected layer C -> C // r, ReLU, a second one
    C // r -> C, sigmoid (Section 3.1). The ranking uses the logits in float32: the sigmoid is
    monotonic but saturates, so that in bf16 the scores of 9, 10 and 11 are all 1.

    Args:
        in_channels (int): C, the channels of the input.
        k (int): How many channels to pick.
        r (int): Reduction of the hidden layer. Defaults to 16 (Section 3.1).
        order (str): How the k channels enter the Conv-Block: highest 'score' first, or by 'index'
            as they stand in the map. Defaults to 'score'.
    """

    def __init__(self, in_channels: int, k: int, r: int = 16, order: str = 'score') -> None:
        super().__init__()
        self.in_channels = in_channels
        self.k = k
        self.r = r
        self.order = order
        # A module, not x.mean(), so that MAC counters which hook modules see the pooling.
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(in_channels, in_channels // r, bias=False)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(in_channels // r, in_channels, bias=False)
        self.start_alive()

    def start_alive(self) -> None:
        """Keep the first hidden unit on, which sees the mean activity; see there."""
        keep_first_unit_alive(self.fc1)

    def logits(self, x: Tensor) -> Tensor:
        """Channel importances before the sigmoid.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W).

        Returns:
            Tensor: float32 (float64 in a float64 network), shape (N, C).
        """
        return self.logits_of_mean(self.pool(x).flatten(1))

    def logits_of_mean(self, mean: Tensor) -> Tensor:
        """Channel importances from the global average, shape (N, C)."""
        with torch.autocast(mean.device.type, enabled=False):
            return self.score(mean)

    def score(self, mean: Tensor) -> Tensor:
        """The same where nothing is autocast."""
        logits = self.fc2(self.relu(self.fc1(mean.to(self.fc1.weight.dtype))))
        # A network in half precision must not round what it ranks any further.
        return logits if logits.dtype == torch.float64 else logits.float()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pick the k most important channels of each sample.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W).

        Returns:
            tuple[Tensor, Tensor]: Channel indices, int64, and their scores in (0, 1), float32,
            both of shape (N, k), highest score first unless ``order='index'``.
        """
        return self.best(self.logits(x))

    def select(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` gives, for those who have the global average, shape (N, C)."""
        return self.best(self.logits_of_mean(mean))

    def best(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The k highest, as indices and scores."""
        top, index = logits.topk(self.k, dim=1)
        if self.order == 'index':
            index, place = index.sort(dim=1)
            top = top.gather(1, place)
        return index, top.sigmoid()

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f'in_channels={self.in_channels}, k={self.k}, r={self.r}, order={self.order!r}'


class RandomSelector(nn.Module):
    """Picks k channels at random: the control experiment "MoD50 rand." of Table 1.

    Drawn anew per sample at every forward, in training and in evaluation, from torch's generator
    (``torch.manual_seed`` repeats it). It has no parameters and gives no scores.

    Args:
        in_channels (int): C, the channels of the input.
        k (int): How many channels to pick.
        order (str): 'score', here a random order, or 'index'. Defaults to 'score'.
    """

    def __init__(self, in_channels: int, k: int, order: str = 'score') -> None:
        super().__init__()
        self.in_channels = in_channels
        self.k = k
        self.order = order

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Pick k distinct channels of each sample.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W).

        Returns:
            tuple[Tensor, None]: Channel indices, int64, shape (N, k), in random order unless
            ``order='index'``; no scores.
        """
        noise = torch.rand(x.shape[:2], device=x.device)
        index = noise.topk(self.k, dim=1).indices
        return (index.sort(dim=1).values if self.order == 'index' else index), None

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f'in_channels={self.in_channels}, k={self.k}, order={self.order!r}'
