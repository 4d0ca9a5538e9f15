"""The MoD block: select, gather, process, weight, fuse (Section 3, Fig. 1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmcv.cnn import is_norm
from mmcv.cnn.bricks import LayerScale
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import shown
from .channel_selector import ChannelSelector, RandomSelector
from .checks import check_choice, check_positive_int
from .fusion import FUSIONS, POSITIONS, Fusion
from .initialization import init_first_unit_nonnegative_

SELECTIONS = ('topk', 'random')


class MoDBlock(nn.Module):
    """Processes only k = C // c channels of its input and keeps its shape.

    The selector picks k channels per sample and a Conv-Block of width k processes them. The result
    is multiplied by their scores, which gives the selector gradients, and fused with the input.

    Args:
        in_channels (int): C, channels of input and output.
        conv_block (Callable[[int], nn.Module]): Builds the Conv-Block for a given k; it must map
            (N, k, H, W) to the same shape.
        c (int): The divisor in k = C // c. In the paper it is the input width of the network's
            first block, 64 for ResNet (Section 3.2, Table 10). Defaults to 64.
        r (int): Reduction inside the selector. Defaults to 16 (Section 3.1).
        position (str): 'first', 'last' or 'original', see :class:`Fusion`. Defaults to 'first'.
        fusion (str): 'add' or 'replace', see :class:`Fusion`. Defaults to 'add'.
        selection (str): 'topk' by learned scores, or 'random' without learned selector and scores
            (Table 1, "MoD50 rand."). Defaults to 'topk'.
        drop_path (nn.Module, optional): Stochastic depth on the processed channels; only with
            ``fusion='add'``. Defaults to None.
        with_cp (bool): Gradient checkpointing: recompute the Conv-Block in the backward pass.
            Defaults to False.
        name (str): The name of this block in error messages. Defaults to 'MoD block'.

    Raises:
        ValueError: If an option is unknown, if ``in_channels``, ``c`` or ``r`` is not a positive
            integer, if ``c`` or ``r`` leaves no channel (C // c = 0 or C // r = 0), or if
            ``drop_path`` is not a module or is used with ``fusion='replace'``.
    """

    def __init__(
        self,
        in_channels: int,
        conv_block: Callable[[int], nn.Module],
        c: int = 64,
        r: int = 16,
        position: str = 'first',
        fusion: str = 'add',
        selection: str = 'topk',
        drop_path: nn.Module | None = None,
        with_cp: bool = False,
        name: str = 'MoD block',
    ) -> None:
        super().__init__()
        self.in_channels = self.out_channels = in_channels
        self.c = c
        self.with_cp = with_cp
        self.name = f'{name} (width {shown(in_channels)}, c={shown(c)})'
        self._check_options(r, position, fusion, selection, drop_path)

        self.k = in_channels // c
        if selection == 'topk':
            self.selector = ChannelSelector(in_channels, self.k, r)
        else:
            self.selector = RandomSelector(in_channels, self.k)
        self.conv_block = conv_block(self.k)
        self.drop_path = drop_path or nn.Identity()
        self.fusion = Fusion(in_channels, self.k, position, fusion)
        self.ensure_trainable_init()

    def _check_options(self, r, position, fusion, selection, drop_path) -> None:
        check_positive_int(self.name, 'in_channels', self.in_channels)
        check_mod_options(self.name, self.c, r, position, fusion, selection, self.in_channels)
        if not isinstance(drop_path, (nn.Module, type(None))):
            raise ValueError(
                f'{self.name}: drop_path must be a module or None, got {shown(drop_path)}'
            )
        if fusion == 'replace' and not isinstance(drop_path, (nn.Identity, type(None))):
            raise ValueError(
                f"{self.name}: stochastic depth would erase channels under fusion='replace'; "
                "use fusion='add' or drop_path_rate=0"
            )

    def ensure_trainable_init(self) -> None:
        """Make sure that every layer can learn. Call this after the layers are initialised."""
        init_first_unit_nonnegative_(self.conv_block)
        if isinstance(self.selector, ChannelSelector):
            self.selector.ensure_trainable_init()

    @torch.no_grad()
    def start_near_identity(self, factor: float) -> None:
        """Scale down what the block adds. Call this after the layers are initialised.

        With ``fusion='replace'`` this does nothing, because scaling would erase channels.

        Args:
            factor (float): Multiplies the weight and bias of the last norm, or of the last
                convolution if that comes later. A layer scale, which starts at 1e-6, is set to it
                instead. It must not be 0: no gradient would pass the ReLU after the norm.
        """
        if self.fusion.mode == 'replace':
            return
        kinds = (nn.Conv2d, LayerScale)
        layers = [m for m in self.conv_block.modules() if isinstance(m, kinds) or is_norm(m)]
        for parameter in layers[-1].parameters():
            if isinstance(layers[-1], LayerScale):
                parameter.fill_(factor)
            else:
                parameter.mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Process k channels of the map.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W). It is not changed.

        Returns:
            Tensor: The fused map, shape (N, C, H, W).

        Raises:
            AssertionError: If the map has another shape.
        """
        self.check_shape(x)
        index, scores = self.selector(x)
        # gather is correct at every batch size, also in a trace.
        selected = x.gather(1, index[:, :, None, None].expand_as(x[:, : self.k]))
        if self.with_cp and x.requires_grad:
            processed = checkpoint(self.conv_block, selected, use_reentrant=False)
        else:
            processed = self.conv_block(selected)
        if scores is not None:  # the last step of the Conv-Block, Section 3.2
            processed = processed * scores.to(processed.dtype)[:, :, None, None]
        return self.fusion(x, self.drop_path(processed), index)

    def check_shape(self, x: Tensor) -> None:
        """Raise an AssertionError, which tracers support, that names the block of a wrong shape."""
        if not torch.jit.is_tracing():  # it warns about every comparison of sizes
            torch._assert(
                x.shape[1:-2] == (self.in_channels,),
                f'{self.name}: expected an input of shape (N, {self.in_channels}, H, W)',
            )

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f'in_channels={self.in_channels}, c={self.c}, k={self.k}'


def check_mod_options(name, c, r, position, fusion, selection, width: int | None = None) -> None:
    """Raise a ValueError if an option is invalid for a block of this width."""
    check_choice(name, 'position', position, POSITIONS)
    check_choice(name, 'fusion', fusion, FUSIONS)
    check_choice(name, 'selection', selection, SELECTIONS)
    check_positive_int(name, 'c', c, at_most=width)
    check_positive_int(name, 'r', r, at_most=width)
