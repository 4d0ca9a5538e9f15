"""The channel selector, which chooses the k of C channels to process (Section 3.1, Fig. 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .initialization import init_first_unit_nonnegative_


def accelerator() -> str:
    """The device type, besides 'cpu', for which autocast may be enabled in this process."""
    found = torch.accelerator.current_accelerator() if hasattr(torch, 'accelerator') else None
    if found is None or not torch.amp.is_autocast_available(found.type):
        return 'cuda'
    return found.type


ACCELERATOR = accelerator()


class ChannelSelector(nn.Module):
    """Scores every channel from its global average and picks the k best, per sample.

    Global average pool, a bias-free fully connected layer C -> C // r, ReLU, a second one
    C // r -> C, sigmoid (Section 3.1). Channels are ranked by their logits in float32, because the
    sigmoid saturates: in bf16, the scores of the logits 9, 10 and 11 are all 1. The two layers run
    in float32 under autocast, and in half precision in a half-precision network.

    Args:
        in_channels (int): C, the channels of the input.
        k (int): How many channels to pick.
        r (int): Reduction of the hidden layer. Defaults to 16 (Section 3.1).
    """

    def __init__(self, in_channels: int, k: int, r: int = 16) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.k = k
        self.r = r
        # A module instead of x.mean(), so that MAC counters, which hook modules, count the pooling.
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(in_channels, in_channels // r, bias=False)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(in_channels // r, in_channels, bias=False)
        self.ensure_trainable_init()

    def ensure_trainable_init(self) -> None:
        """Keep the first hidden unit active, see :func:`init_first_unit_nonnegative_`."""
        init_first_unit_nonnegative_(self.fc1)

    def logits(self, x: Tensor) -> Tensor:
        """Channel importances before the sigmoid.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W).

        Returns:
            Tensor: float32 (float64 in a float64 network), shape (N, C).
        """
        mean = self.pool(x).flatten(1)
        # Empty if the layers were replaced by quantised ones, which have no parameters.
        dtypes = [p.dtype for p in self.fc1.parameters() if p.is_floating_point()]
        mean = mean.to(dtypes[0]) if dtypes else mean
        # For both devices, because x.device.type is not available while a map is traced.
        with torch.autocast('cpu', enabled=False), torch.autocast(ACCELERATOR, enabled=False):
            logits = self.fc2(self.relu(self.fc1(mean)))
        return logits if torch.float64 in dtypes else logits.float()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pick the k most important channels of each sample.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W).

        Returns:
            tuple[Tensor, Tensor]: Channel indices, int64, and their scores in (0, 1), float32 (or
            float64), both of shape (N, k), highest score first.
        """
        logits, index = self.logits(x).topk(self.k, dim=1)
        return index, logits.sigmoid()

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f'in_channels={self.in_channels}, k={self.k}, r={self.r}'


class RandomSelector(nn.Module):
    """Picks k channels at random: the control experiment "MoD50 rand." of Table 1.

    The channels are drawn for every sample in every forward pass, in training and evaluation, from
    torch's generator (see ``torch.manual_seed``). It has no parameters and returns no scores.

    Args:
        in_channels (int): C, the channels of the input.
        k (int): How many channels to pick.
    """

    def __init__(self, in_channels: int, k: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.k = k

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Pick k distinct channels of each sample.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W).

        Returns:
            tuple[Tensor, None]: Channel indices, int64, shape (N, k), in random order; no scores.
        """
        noise = torch.rand_like(x[:, :, 0, 0], dtype=torch.float32)
        return noise.topk(self.k, dim=1).indices, None

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f'in_channels={self.in_channels}, k={self.k}'
