"""The MoD block: select, process, weight, fuse (Section 3, Fig. 1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmcv.cnn import is_norm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .backends.switch import BACKENDS, check_chosen, fast_way
from .channel_selector import ORDERS, ChannelSelector, RandomSelector
from .checks import check_choice, check_positive_int
from .conv_block import ends_with_norm, take_last_activation
from .deploy import fold_norms
from .fusion import FUSIONS, POSITIONS, Fusion, per_sample
from .initialization import keep_first_unit_alive

SELECTIONS = ('topk', 'random')
LAST_ACTIVATIONS = ('before', 'after')


class MoDBlock(nn.Module):
    """Processes only k = C // c channels of its input; shapes never change.

    The selector picks k channels per sample, a Conv-Block k wide processes them, the result is
    multiplied by their scores (which is how the selector gets gradients) and fused with the input.

    Args:
        in_channels (int): C, channels of input and output.
        conv_block (Callable[[int], nn.Module]): Builds the Conv-Block for a given k; it must map
            (N, k, H, W) to the same shape.
        c (int): Divides the width: k = C // c. The paper takes the input width of the network's
            first block, 64 for ResNet (Section 3.2, Table 10). Defaults to 64.
        r (int): Reduction inside the selector. Defaults to 16 (Section 3.1).
        position (str): 'first', 'last' or 'original', see :class:`Fusion`. Defaults to 'first'.
        fusion (str): 'add' or 'replace', see :class:`Fusion`. Defaults to 'add'.
        selection (str): 'topk' by learned scores, or 'random', which builds no selector and
            multiplies by no scores (Table 1, "MoD50 rand."). Defaults to 'topk'.
        last_activation (str): Experimental. Where the Conv-Block's last activation stands:
            'before' the multiplication with the scores, or 'after' the fusion, on its k channels,
            as in a residual block. The paper's counts cannot tell. Defaults to 'before'.
        order (str): Experimental. How the k channels enter the Conv-Block: by 'score', highest
            first, or by 'index'. Defaults to 'score'.
        zero_init (bool): Experimental. Start with the Conv-Block's last norm at zero, so that the
            block is the identity at first (with ``last_activation='after'`` on maps that are not
            negative). Where a ReLU follows that norm, as it does in ResNets with 'before', the
            block gets no gradient and stays the identity: the network without its MoD blocks. Not
            for ConvNeXt. Defaults to False.
        drop_path (nn.Module, optional): Stochastic depth on the processed channels; only with
            ``fusion='add'``. Defaults to None.
        with_cp (bool): Gradient checkpointing: recompute the block in the backward pass.
            Defaults to False.
        backend (str, optional): How to compute the block: 'auto', 'reference', 'eager', 'triton'
            or 'native', see :mod:`mmcnnmod.layers.backends.switch`. Defaults to None, what the
            switch of the process (MMCNNMOD_BACKEND) says.
        name (str): How error messages call this block. Defaults to 'MoD block'.

    Raises:
        ValueError: If an option is unknown, ``c`` or ``r`` is no positive integer or leaves no
            channel (C // c = 0 or C // r = 0), ``last_activation='after'`` meets a Conv-Block that
            ends without one, ``zero_init`` one that does not end with a norm, or an input has the
            wrong shape.
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
        last_activation: str = 'before',
        order: str = 'score',
        zero_init: bool = False,
        drop_path: nn.Module | None = None,
        with_cp: bool = False,
        backend: str | None = None,
        name: str = 'MoD block',
    ) -> None:
        super().__init__()
        self.in_channels = self.out_channels = in_channels
        self.c = c
        self.with_cp = with_cp
        self.zero_init = zero_init
        self.backend = backend
        self.deploy = False
        self.name = f'{name} (width {in_channels}, c={c!r})'
        self._check_options(r, position, fusion, selection, drop_path)
        check_choice(self.name, 'last_activation', last_activation, LAST_ACTIVATIONS)
        check_choice(self.name, 'order', order, ORDERS)
        check_choice(self.name, 'backend', backend, (None, *BACKENDS))
        check_chosen()

        self.k = in_channels // c
        if selection == 'topk':
            self.selector = ChannelSelector(in_channels, self.k, r, order)
        else:
            self.selector = RandomSelector(in_channels, self.k, order)
        self.conv_block = conv_block(self.k)
        self.drop_path = drop_path or nn.Identity()
        if zero_init and not ends_with_norm(self.conv_block):
            raise ValueError(
                f'{self.name}: the Conv-Block of this family does not end with a norm, so '
                'zero_init=True is not possible; use zero_init=False'
            )
        activation = self._take_activation() if last_activation == 'after' else None
        self.fusion = Fusion(self.k, position, fusion, activation)
        self.start_alive()

    def _check_options(self, r, position, fusion, selection, drop_path) -> None:
        check_choice(self.name, 'position', position, POSITIONS)
        check_choice(self.name, 'fusion', fusion, FUSIONS)
        check_choice(self.name, 'selection', selection, SELECTIONS)
        check_positive_int(self.name, 'c', self.c, at_most=self.in_channels)
        check_positive_int(self.name, 'r', r, at_most=self.in_channels)
        if fusion == 'replace' and not isinstance(drop_path, (nn.Identity, type(None))):
            raise ValueError(
                f"{self.name}: stochastic depth would erase channels under fusion='replace'; "
                "use fusion='add' or drop_path_rate=0"
            )

    def _take_activation(self) -> nn.Module:
        activation = take_last_activation(self.conv_block)
        if activation is None:
            raise ValueError(
                f'{self.name}: the Conv-Block of this family ends without an activation, so '
                "last_activation='after' is not possible; use last_activation='before'"
            )
        return activation

    def start_alive(self) -> None:
        """Make sure that the block can learn; to be called after any initialisation of layers.

        With ``zero_init`` its last norm is set to zero.
        """
        keep_first_unit_alive(self.conv_block)
        if isinstance(self.selector, ChannelSelector):
            self.selector.start_alive()
        if self.zero_init:
            self._scale_last_norm(0)

    def start_near_identity(self, factor: float) -> None:
        """Make what the block adds smaller; after any initialisation of layers.

        With ``fusion='replace'`` nothing is done: there a weak block would erase channels.

        Args:
            factor (float): For the last norm's weight and bias. Not 0: no gradient would pass the
                ReLU behind the norm.
        """
        if self.fusion.mode == 'add':
            self._scale_last_norm(factor)

    @torch.no_grad()
    def _scale_last_norm(self, factor: float) -> None:
        last_norm = [layer for layer in self.conv_block.modules() if is_norm(layer)][-1]
        for parameter in last_norm.parameters():
            parameter.mul_(factor)

    def switch_to_deploy(self) -> None:
        """Fold the Conv-Block's norms and drop what only training needs; there is no way back."""
        if self.deploy:
            return
        self.eval()
        fold_norms(self.conv_block)
        self.drop_path = nn.Identity()
        self.with_cp = False
        self.deploy = True

    def train(self, mode: bool = True) -> MoDBlock:
        """Training or eval mode, as torch does.

        Raises:
            RuntimeError: For training mode after :meth:`switch_to_deploy`.
        """
        if mode and self.deploy:
            raise RuntimeError(
                f'{self.name}: it was switched to deploy, its norms are folded; '
                'to train, build the network again and load its checkpoint'
            )
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """Refine k channels of the map: what :meth:`define` says, in the way the backend chooses.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W). It is not changed.

        Returns:
            Tensor: The fused map, shape (N, C, H, W).
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f'{self.name}: expected an input of shape (N, {self.in_channels}, H, W), '
                f'got {tuple(x.shape)}'
            )
        if self.with_cp and x.requires_grad:
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        way = fast_way(self, x)
        return self.define(x) if way is None else way(self, x, False)

    def define(self, x: Tensor) -> Tensor:
        """Section 3 of the paper: the truth, with which every faster way is compared."""
        processed, index = self.process(x)
        return self.fusion(x, processed, index)

    def process(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Select, process, weight: what is to be fused, (N, k, H, W), and the channels, (N, k)."""
        index, scores = self.selector(x)
        processed = self.conv_block(x[per_sample(index)])
        if scores is not None:
            processed = processed * scores.to(processed.dtype)[:, :, None, None]
        return self.drop_path(processed), index

    def is_original(self) -> bool:
        """Whether neither a subclass nor a wrapper has changed what is computed."""
        return (
            all(getattr(type(self), name) is method for name, method in DEFINING.items())
            and not any(name in vars(self) for name in DEFINING)
            and type(self.selector) in (ChannelSelector, RandomSelector)
            and type(getattr(self.selector, 'pool', None)) in (nn.AdaptiveAvgPool2d, type(None))
            and type(self.fusion) is Fusion
            and not any('forward' in vars(module) for module in self.watchable())
        )

    def watchable(self) -> tuple[nn.Module, ...]:
        """The modules whose hooks see the block's input, or what only the definition computes."""
        selector, fusion = self.selector, self.fusion
        pool = getattr(selector, 'pool', selector)
        return self, selector, pool, self.drop_path, fusion, fusion.activation

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f'in_channels={self.in_channels}, c={self.c}, k={self.k}'


# The methods that say what a block computes, as they are here: who patches the class is seen too.
DEFINING = {name: getattr(MoDBlock, name) for name in ('forward', '_forward', 'define', 'process')}
