"""ResNet-MoD: MoD applied to a toolbox's ResNet (Section 3.4, Tables 5 and 7)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from ..layers import basic_block, bottleneck
from ..layers.checks import check_choice, check_positive_int
from .mod_backbone import MoDBackbone, names_below

# Blocks per stage for depths in the paper that the toolboxes do not have (Table 5).
BASIC_BLOCK_STAGES = {26: (2, 2, 3, 4), 42: (3, 3, 6, 6)}
BOTTLENECK_STAGES = {75: (3, 4, 14, 3), 86: (3, 4, 18, 3)}


class MoDResNet(MoDBackbone):
    """Mixin for the ResNet classes of mmpretrain, mmsegmentation and mmdetection.

    All arguments of the toolbox's ResNet keep their meanings and defaults. ``dcn``, ``plugins`` and
    ``groups`` apply to the standard blocks only, because the paper has no such variants of an MoD
    block. The dilation of a stage, ``conv_cfg``, ``norm_cfg``, ``with_cp`` and ``drop_path_rate``
    apply to the MoD blocks as well; ``zero_init_residual`` does not, because a zero norm before the
    last ReLU of a block would never learn.

    Args:
        depth (int): 18, 26, 34, 42 (basic blocks), 50, 75, 86, 101 or 152 (bottlenecks), counted
            as in the dense network (Table 5).
        **kwargs: The options of :class:`MoDBackbone`, and the arguments of the toolbox's class.

    Raises:
        ValueError: If ``depth`` is unknown or ``base_channels`` is not a positive integer, and as
            in :class:`MoDBackbone`.
    """

    family = 'ResNet'

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        dense = cls.arch_settings
        cls.arch_settings = {
            **dense,
            **{depth: (dense[18][0], stages) for depth, stages in BASIC_BLOCK_STAGES.items()},
            **{depth: (dense[50][0], stages) for depth, stages in BOTTLENECK_STAGES.items()},
        }

    def __init__(self, depth: int, **kwargs) -> None:
        name = type(self).__name__
        check_choice(name, 'depth', depth, sorted(self.arch_settings))
        # With 0 the toolboxes would build a network without channels.
        check_positive_int(name, 'base_channels', kwargs.get('base_channels', 64))
        super().__init__(depth=depth, **kwargs)

    def blocks_of_stages(self) -> list[list[str]]:
        """The names of the residual blocks, 'layer1.0' and so on."""
        return [names_below(self, layer) for layer in self.res_layers]

    def default_c(self) -> int:
        """The input width of the first block: 64, or 32 with ``base_channels=32``.

        It does not exceed the width of the first stage, which would otherwise have k = 0.
        """
        return min(self.stem_channels, self.base_channels)

    def keeps_shape(self, block: nn.Module) -> bool:
        """Whether the block's shortcut is the identity."""
        return block.downsample is None

    def conv_block(self, block: nn.Module) -> tuple[int, Callable[[int], nn.Module]]:
        """The width of a standard block, and a builder of its narrow copy for k channels."""
        cfgs = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg)
        width = block.conv1.in_channels
        if not hasattr(block, 'conv3'):
            return width, partial(basic_block, dilation=dilation_of(block.conv1), **cfgs)
        expansion = width // block.conv3.in_channels
        return width, partial(
            bottleneck, expansion=expansion, dilation=dilation_of(block.conv2), **cfgs
        )


def dilation_of(conv: nn.Module) -> int:
    """The dilation of a convolution, which stores it as a pair or, if deformable, as a number."""
    return conv.dilation[0] if isinstance(conv.dilation, tuple) else conv.dilation
