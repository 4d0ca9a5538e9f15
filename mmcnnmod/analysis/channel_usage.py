"""How often each channel is selected (Section 5.1, Fig. 4).

Choices are seen by forward hooks on ``MoDBlock.selector``, whose output begins with the indices of
the selected channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..layers import MoDBlock
from ..ops import DeployedMoDBlock


class ChannelUsage:
    """How often the channels of one MoD block are selected, for several groups of images.

    Args:
        block (str): The block's name, such as 'layer3.1'.
        channels (int): C, the block's width.
        k (int): How many channels it selects per image.
        groups (Sequence[str]): The names of the groups. An image may be in several.

    Attributes:
        images (Tensor): Images seen so far of each group, int64, shape (G,).
        counts (Tensor): How often each channel was selected, int64, shape (G, C).
    """

    def __init__(self, block: str, channels: int, k: int, groups: Sequence[str]) -> None:
        self.block = block
        self.channels = channels
        self.k = k
        self.groups = list(groups)
        self.images = torch.zeros(len(groups), dtype=torch.int64)
        self.counts = torch.zeros(len(groups), channels, dtype=torch.int64)

    def add(self, selections: Sequence[Tensor], members: Tensor) -> None:
        """Count the choices for a batch.

        Args:
            selections (Sequence[Tensor]): The chosen channels, each of shape (N, k): one for each
                forward pass, of which sliding-window inference needs several.
            members (Tensor): To which groups the images belong, bool, shape (N, G).

        Raises:
            ValueError: If a pass saw another number of samples than there are images.
        """
        per_image = torch.zeros(len(members), self.channels, dtype=torch.int64)
        for index in selections:
            if len(index) != len(members):
                raise ValueError(
                    f'{self.block}: {len(index)} samples went through the block for '
                    f'{len(members)} images, so it is unknown which belongs to which'
                )
            add_selections(per_image, index.cpu())
        self.counts += members.long().T @ per_image
        self.images += members.sum(0)

    def percentages(self) -> Tensor:
        """Times selected in percent of all selections in the block (Fig. 4), float64, shape (G, C).

        Each row adds up to 100, or to 0 without an image. No channel can have more than 100 / k.
        """
        return 100 * self.counts.double() / self.counts.sum(1, keepdim=True).clamp(min=1)


def mod_blocks(model: nn.Module) -> dict[str, MoDBlock]:
    """The MoD blocks of a backbone or a model by name, such as 'layer3.1', in the network's order.

    The names are without the prefixes of the backbone and of a wrapper for several processes.

    Raises:
        UserError: If the network was switched to deploy.
    """
    refuse_deployed(model)
    return {
        name.removeprefix('module.').removeprefix('backbone.'): module
        for name, module in model.named_modules()
        if isinstance(module, MoDBlock)
    }


def refuse_deployed(model: nn.Module) -> None:
    """Raise a UserError if a network was switched to deploy, which hides its MoD blocks."""
    if any(isinstance(module, DeployedMoDBlock) for module in model.modules()):
        raise UserError(
            f'{type(model).__name__} was switched to deploy, which hides its MoD blocks; use the '
            'network before switch_to_deploy()'
        )


@contextmanager
def recorded_selections(block: MoDBlock) -> Iterator[list[Tensor]]:
    """A list to which each forward pass of a block adds the selected channels, shape (N, k)."""
    selections = []
    hook = block.selector.register_forward_hook(
        lambda selector, inputs, output: selections.append(output[0])
    )
    try:
        yield selections
    finally:
        hook.remove()


def add_selections(counts: Tensor, index: Tensor) -> None:
    """Count choices on their own device, without making a GPU wait for the host.

    Args:
        counts (Tensor): Times selected so far, int64, shape (C,), or (N, C) to keep the samples
            apart. Changed in place.
        index (Tensor): The channels that a selector chose, shape (N, k).
    """
    if counts.dim() == 1:
        index = index.flatten()
    # Not `bincount`: the size of its result depends on the values, so the host would wait.
    counts.scatter_add_(-1, index, torch.ones_like(index))


def share_selected(counts: Tensor) -> float:
    """The share of channels selected at least once: from k / C, always the same channels, to 1.

    Args:
        counts (Tensor): Times selected, shape (C,).
    """
    return (counts > 0).double().mean().item()


def selection_entropy(counts: Tensor) -> float:
    """The entropy of the selections over the channels, in units of log C.

    It is log k / log C where always the same channels are selected, 1 where all are equally often.

    Args:
        counts (Tensor): Times selected, shape (C,), not all 0.
    """
    if len(counts) == 1:
        return 1.0
    shares = counts.double() / counts.sum()
    return torch.special.entr(shares).sum().item() / math.log(len(counts))
