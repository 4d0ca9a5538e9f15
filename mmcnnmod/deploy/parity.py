"""Check that an exported file computes the same network as PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..layers import ChannelSelector
from .exported_file import ExportedFile
from .parts import Part, selectors

# The limit for an output or a selector's logits, as a share of the largest value. Rounding in
# float32 caused at most 1e-5 in all tested networks.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2  # of files in half precision
UNMATCHED = 0.05  # the largest share of boxes that only one side has


@dataclass(frozen=True)
class Comparison:
    """The differences between a file and PyTorch on the same images.

    Attributes:
        differences (dict[str, float]): The largest difference of each output, as a share of its
            largest value. PyTorch processes the channels that the file selected.
        same (int): The number of selections of the same channels in the same order.
        tied (int): The number of selections of channels whose logits differ only by rounding.
        others (int): The number of other selections.
        tolerance (float): The largest difference that counts as rounding.
        boxes (int): The number of boxes that a detector found. Defaults to 0.
        unmatched (int): The number of boxes that only one side found. Defaults to 0.
    """

    differences: dict[str, float]
    same: int
    tied: int
    others: int
    tolerance: float
    boxes: int = 0
    unmatched: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the file computes the same network."""
        return (
            not self.others
            and self.unmatched <= UNMATCHED * self.boxes
            and all(value <= self.tolerance for value in self.differences.values())
        )

    def __add__(self, other: Comparison) -> Comparison:
        """Combine the comparisons of two batches of images."""
        counts = ('same', 'tied', 'others', 'boxes', 'unmatched')
        differences = dict(self.differences)
        for name, value in other.differences.items():
            differences[name] = max(value, differences.get(name, 0.0))
        return Comparison(
            differences,
            tolerance=self.tolerance,
            **{name: getattr(self, name) + getattr(other, name) for name in counts},
        )

    def __str__(self) -> str:
        text = ', '.join(f'{name} {value:.1e}' for name, value in self.differences.items())
        text = text or 'no boxes'
        if self.boxes:
            text += f' ({self.boxes} boxes, {self.unmatched} on one side only)'
        if not self.same + self.tied + self.others:
            return text
        text += f'; selections: {self.same} the same'
        text += f', {self.tied} tied' if self.tied else ''
        return text + (f', {self.others} DIFFERENT' if self.others else '')


@torch.no_grad()
def compare(
    reference: Part, images: Tensor, file: ExportedFile, given: Tensor, tolerance: float = TOLERANCE
) -> Comparison:
    """Compare a file with PyTorch.

    Args:
        reference (Part): The network in PyTorch, norms not folded, on the CPU.
        images (Tensor): Normalised images, float32, shape (N, 3, H, W).
        file (ExportedFile): Opened with the names of the selectors, if it exposes selections.
        given (Tensor): The same images as inputs of the file.
        tolerance (float): See :class:`Comparison`. Defaults to ``TOLERANCE``.
    """
    found, selected = file(given)
    with forced_selections(reference, selected) as gaps:
        outputs = reference.compute(images)
    expected = dict(zip(reference.names, outputs, strict=True))
    same, gap = (torch.cat(gaps) if gaps else torch.zeros(0, 2)).unbind(1)
    tied = (same == 0) & (gap <= tolerance)
    others = (same == 0) & ~tied
    counts = [int(each.sum()) for each in (same, tied, others)]
    return Comparison(
        reference.differences(expected, found),
        *counts,
        tolerance,
        *reference.unmatched(expected, found),
    )


@contextmanager
def forced_selections(part: Part, selected: dict[str, Tensor]) -> Iterator[list[Tensor]]:
    """Context in which the selectors of a network select given channels.

    Args:
        part (Part): The network.
        selected (dict[str, Tensor]): The channels, shape (N, k), by the selectors' names.

    Yields:
        list[Tensor]: One tensor of shape (N, 2) for each selector that has run: whether its own
        selection is the same, and the largest difference between the logits of the given channels
        and those of its own, as a share of the largest logit.
    """
    gaps = []

    def force(index: Tensor, selector: ChannelSelector, inputs: tuple, own: tuple) -> tuple:
        logits = selector.logits(*inputs)
        given = logits.gather(1, index)
        gap = (given - logits.gather(1, own[0])).abs().amax(1)
        # If no hidden unit is active, all logits are 0 and every selection is a tie.
        gap = gap / logits.abs().amax(1).clamp(min=1e-30)
        gaps.append(torch.stack([(index == own[0]).all(1), gap], 1))
        return index, given.sigmoid()

    handles = [
        selector.register_forward_hook(partial(force, selected[name]))
        for name, selector in selectors(part).items()
        if name in selected
    ]
    try:
        yield gaps
    finally:
        for handle in handles:
            handle.remove()
