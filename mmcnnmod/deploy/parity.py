"""Whether a file computes the network that it was written from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers import ChannelSelector
from .exported_file import ExportedFile
from .parts import Part, selectors

# Of an output, or of a selector's logits, as a share of its largest value. Rounding in float32
# gave 1e-5 and less in all networks that were tried.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2  # of files in half precision
STRAYS = 0.05  # the share of a detector's boxes that may be others


@dataclass(frozen=True)
class Comparison:
    """What a file and PyTorch make of the same images.

    Attributes:
        differences (dict[str, float]): Of each output, as a share of its largest value. PyTorch
            computes with the channels that the file has chosen.
        same (int): How often a selector has chosen the same channels, in the same order.
        ties (int): How often others, whose logits differ by no more than rounding.
        others (int): How often others.
        tolerance (float): Up to which difference they agree.
        boxes (int): How many boxes a detector has found. Defaults to 0.
        strays (int): How many of them the file or PyTorch alone has found. Defaults to 0.
    """

    differences: dict[str, float]
    same: int
    ties: int
    others: int
    tolerance: float
    boxes: int = 0
    strays: int = 0

    @property
    def agrees(self) -> bool:
        """Whether it is the same network."""
        differences = self.differences.values()
        few = self.strays <= STRAYS * self.boxes
        return few and not self.others and all(each <= self.tolerance for each in differences)

    def __add__(self, other: Comparison) -> Comparison:
        """Both together."""
        names = {**self.differences, **other.differences}
        return Comparison(
            {
                name: max(each.differences.get(name, 0.0) for each in (self, other))
                for name in names
            },
            self.same + other.same,
            self.ties + other.ties,
            self.others + other.others,
            self.tolerance,
            self.boxes + other.boxes,
            self.strays + other.strays,
        )

    def __str__(self) -> str:
        text = ', '.join(f'{name} {value:.1e}' for name, value in self.differences.items())
        text = text or 'no boxes'
        if self.boxes:
            text += f' ({self.boxes} boxes, {self.strays} on one side only)'
        if not self.same + self.ties + self.others:
            return text
        text += f'; selections: {self.same} the same'
        text += f', {self.ties} tied' if self.ties else ''
        return text + (f', {self.others} DIFFERENT' if self.others else '')


@torch.no_grad()
def compare(
    reference: Part, images: Tensor, file: ExportedFile, given: Tensor, tolerance: float = TOLERANCE
) -> Comparison:
    """Run a file and PyTorch.

    Args:
        reference (Part): As PyTorch computes it, norms not folded, on the CPU.
        images (Tensor): Normalised images, float32, shape (N, 3, H, W).
        file (ExportedFile): Opened with the names of the selectors, if it shows them.
        given (Tensor): The same images as the file takes them.
        tolerance (float): See :class:`Comparison`. Defaults to ``TOLERANCE``.

    Returns:
        Comparison: With every output and every selector.
    """
    found, chosen = file(given)
    with choosing(reference, chosen) as gaps:
        outputs = reference.compute(images)
    expected = dict(zip(reference.names, outputs, strict=True))
    judged = torch.cat(gaps) if gaps else torch.zeros(0, 2)
    same = judged[:, 0] > 0
    ties = ~same & (judged[:, 1] <= tolerance)
    return Comparison(
        reference.differences(expected, found),
        int(same.sum()),
        int(ties.sum()),
        int((~same & ~ties).sum()),
        tolerance,
        *reference.strays(expected, found),
    )


@contextmanager
def choosing(part: Part, chosen: dict[str, Tensor]) -> Iterator[list[Tensor]]:
    """Within it, the selectors choose what they are told.

    Args:
        part (Part): A network.
        chosen (dict[str, Tensor]): Channels, shape (N, k), by the selectors' names.

    Yields:
        list[Tensor]: Filled in while the network runs. For each selector shape (N, 2): whether it
        would have chosen the same, and how far the logits of the given channels are from those of
        the channels that it would have chosen, as a share of the largest logit.
    """
    gaps = []

    def force(selector: ChannelSelector, inputs: tuple, own: tuple, index: Tensor) -> tuple:
        logits = selector.logits(*inputs)
        given = logits.gather(1, index)
        gap = (given - logits.gather(1, own[0])).abs().amax(1)
        # Where no hidden unit is on, all logits are 0, and every choice is a tie.
        gap = gap / logits.abs().amax(1).clamp(min=1e-30)
        gaps.append(torch.stack([(index == own[0]).all(1), gap], 1))
        return index, given.sigmoid()

    handles = [
        selector.register_forward_hook(
            lambda module, inputs, own, index=chosen[name]: force(module, inputs, own, index)
        )
        for name, selector in selectors(part).items()
        if name in chosen
    ]
    try:
        yield gaps
    finally:
        for handle in handles:
            handle.remove()
