"""How often each channel is selected (Section 5.1, Fig. 4).

Forward hooks on ``MoDBlock.selector`` record the selections: the first output of a selector is the
indices of the selected channels.
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
        k (int): The number of channels that it selects per image.
        groups (Sequence[str]): The names of the groups. An image can belong to several.

    Attributes:
        images (Tensor): The number of images of each group so far, int64, shape (G,).
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
        """Count the selections for a batch.

        Args:
            selections (Sequence[Tensor]): The selected channels of each forward pass, shape (N, k).
                Sliding-window inference has several passes.
            members (Tensor): To which groups the images belong, bool, shape (N, G).

        Raises:
            ValueError: If the number of samples in a pass is not the number of images.
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
        """The share of each channel in all selections of the block, in percent (Fig. 4).

        Returns:
            Tensor: float64, shape (G, C). Each row adds up to 100, or to 0 for a group without
            images. A channel that is selected for every image has 100 / k.
        """
        return 100 * self.counts.double() / self.counts.sum(1, keepdim=True).clamp(min=1)


def mod_blocks(model: nn.Module) -> dict[str, MoDBlock]:
    """The MoD blocks of a backbone or a model by name, such as 'layer3.1', in the network's order.

    The names do not have the prefix 'backbone.' of a model or 'module.' of a distributed wrapper.

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
    """Context with a list to which each forward pass adds the selected channels, shape (N, k)."""
    selections = []
    hook = block.selector.register_forward_hook(
        lambda selector, inputs, output: selections.append(output[0])
    )
    try:
        yield selections
    finally:
        hook.remove()


def add_selections(counts: Tensor, index: Tensor) -> None:
    """Count selections on their own device, without synchronising a GPU with the host.

    Args:
        counts (Tensor): How often each channel was selected so far, int64, shape (C,), or (N, C)
            for each sample. Changed in place.
        index (Tensor): The channels that a selector selected, shape (N, k).
    """
    if counts.dim() == 1:
        index = index.flatten()
    # The size of the result of `bincount` depends on the values, so it would synchronise.
    counts.scatter_add_(-1, index, torch.ones_like(index))


def share_selected(counts: Tensor) -> float:
    """The share of channels that were selected at least once.

    It is k / C if the same channels are always selected, and 1 if every channel was selected.

    Args:
        counts (Tensor): How often each channel was selected, shape (C,).
    """
    return (counts > 0).double().mean().item()


def selection_entropy(counts: Tensor) -> float:
    """The entropy of the selections over the channels, divided by log C.

    It is log k / log C if the same channels are always selected, and 1 if all are selected equally
    often.

    Args:
        counts (Tensor): How often each channel was selected, shape (C,), not all 0.
    """
    if len(counts) == 1:
        return 1.0
    shares = counts.double() / counts.sum()
    return torch.special.entr(shares).sum().item() / math.log(len(counts))
