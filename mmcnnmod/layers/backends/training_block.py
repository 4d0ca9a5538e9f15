"""An MoD block with gradients: the same definition, but one map's worth of gradient written.

The map is used four times: its mean, its k channels, the sum and the other channels of the output.
Plain autograd makes a full map of zeros for every slice, fills it and adds the maps up. Here the
map goes through :class:`Route`, which gets all of these gradients at once:

    x -> Route -> the map -------------------------> Fuse -> fused map
               -> its mean -> scores, index -> x        ^
               -> a place for the k channels -> Pick -> Conv-Block

The k channels are known only after the scores, which come from the mean. So ``Pick`` takes them
from the map but gives their gradient to the *place*, a tensor without memory that ``Route`` made
for nothing else.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from ..channel_selector import ChannelSelector
from ..fusion import Fusion, per_sample


def covers(block: nn.Module) -> bool:
    """Whether a block is one of the paper's: learned scores, and a sum that stays as it is."""
    fusion = block.fusion
    return (
        isinstance(block.selector, ChannelSelector)
        and fusion.mode == 'add'
        and isinstance(fusion.activation, nn.Identity)
    )


def forward(block: nn.Module, x: Tensor, overwrite: bool = False) -> Tensor:
    """What ``block.define`` computes.

    Args:
        block (nn.Module): An MoD block that :func:`covers` accepts.
        x (Tensor): Its input, shape (N, C, H, W).
        overwrite (bool): The input may become the result. Defaults to False.

    Returns:
        Tensor: The fused map, shape (N, C, H, W).
    """
    chosen = []
    x, mean, place = Route.apply(x, block.k, chosen)
    index, scores = block.selector.select(mean)
    chosen.append(index)
    processed = block.conv_block(Pick.apply(x.detach(), place, index))
    processed = block.drop_path(processed * scores.to(processed.dtype)[:, :, None, None])
    return Fuse.apply(x, processed.to(x.dtype), index, block.fusion, overwrite)


class Route(Function):
    """Gives the map, its mean and a place for k channels; adds up the gradients of the three."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, k: int, chosen: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The map, shape (N, C, H, W), its mean, (N, C), and the place, (N, k, H, W)."""
        ctx.chosen = chosen  # filled once the channels are known
        n, _, *size = x.shape
        ctx.area = size[0] * size[1]
        return x, x.mean((2, 3)), x.new_empty(()).expand(n, k, *size)

    @staticmethod
    def backward(
        ctx: FunctionCtx, grad: Tensor, of_mean: Tensor, of_place: Tensor
    ) -> tuple[Tensor, None, None]:
        """The sum of the three, the one map that an MoD block writes in the backward pass."""
        total = grad + (of_mean / ctx.area)[:, :, None, None]
        where = per_sample(ctx.chosen[0])
        total[where] = total[where] + of_place  # no channel twice: nothing to accumulate
        return total, None, None


class Pick(Function):
    """The k channels of the map; their gradient goes to the place."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, place: Tensor, index: Tensor) -> Tensor:
        """They are copied."""
        return x[per_sample(index)]

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor, None]:
        """See the class."""
        return None, grad, None


class Fuse(Function):
    """The sum; its gradient is passed on as it is, to the map and, k channels of it, to them."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        processed: Tensor,
        index: Tensor,
        fusion: Fusion,
        overwrite: bool,
    ) -> Tensor:
        """A copy of the map with the processed channels added, or the map's own memory."""
        ctx.save_for_backward(index)
        ctx.fusion = fusion
        # detach() shares the count of changes, so that autograd notices a reader it cannot serve.
        fused = x.detach() if overwrite else x.clone()
        where = fusion.places(index)
        fused[where] = fused[where] + processed
        return fused.data if overwrite else fused

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Nothing is written."""
        return grad, grad[ctx.fusion.places(*ctx.saved_tensors)], None, None, None
