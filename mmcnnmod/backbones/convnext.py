"""ConvNeXt-MoD: MoD applied to mmpretrain's ConvNeXt (mentioned in Section 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial

from torch import nn

from ..layers import convnext_block
from ..layers.checks import check_choice
from .mod_backbone import MoDBackbone, names_below


class MoDConvNeXt(MoDBackbone):
    """Mixin for mmpretrain's ConvNeXt (V1 and V2).

    The paper mentions ConvNeXt without numbers, so these details are our choice. As in the other
    families, every second block of a stage is an MoD block, ``c`` is the width of the first stage,
    and the Conv-Block is the block of the architecture without the shortcut: depthwise 7x7, norm,
    two pointwise layers with the activation between them, layer scale. See :func:`convnext_block`
    for the norm of very narrow blocks. ``norm_cfg`` must be mmpretrain's 'LN2d', a LayerNorm over
    the channels. All other arguments of mmpretrain's ConvNeXt keep their meanings and defaults.

    Args:
        arch (str | dict): As in mmpretrain: 'tiny', 'small', 'base' and others, or a dict with
            'depths' and 'channels'. Defaults to 'tiny'.
        **kwargs: The options of :class:`MoDBackbone`, where ``c`` defaults to 96 (tiny, small) or
            128 (base), and the arguments of mmpretrain's ConvNeXt.

    Raises:
        ValueError: If ``arch`` is unknown, and as in :class:`MoDBackbone`.
    """

    family = 'ConvNeXt'

    def __init__(self, arch: str | dict = 'tiny', **kwargs) -> None:
        if not isinstance(arch, dict):
            check_choice(type(self).__name__, 'arch', arch, self.arch_settings)
        super().__init__(arch=arch, **kwargs)

    def blocks_of_stages(self) -> list[list[str]]:
        """The names of the residual blocks, 'stages.0.0' and so on."""
        return [names_below(self, f'stages.{i}') for i in range(self.num_stages)]

    def default_c(self) -> int:
        """The width of the first stage: 96 or 128."""
        return self.channels[0]

    def keeps_shape(self, block: nn.Module) -> bool:
        """Always true: downsampling layers are between the stages."""
        return True

    def conv_block(self, block: nn.Module) -> tuple[int, Callable[[int], nn.Module]]:
        """The width of a standard block, and a builder of its narrow copy for k channels."""
        width = block.depthwise_conv.in_channels
        return width, partial(
            convnext_block,
            kernel_size=block.depthwise_conv.kernel_size[0],
            expansion=len(block.pointwise_conv1.weight) // width,
            norm=partial(type(block.norm), eps=block.norm.eps),
            activation=partial(deepcopy, block.act),
            response_norm=None if block.grn is None else type(block.grn),
            layer_scale=None if block.gamma is None else block.gamma[0].item(),
        )
