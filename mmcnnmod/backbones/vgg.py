"""VGG-MoD: MoD applied to mmpretrain's VGG (Table 9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from ..layers import plain_conv
from ..layers.checks import check_choice
from .mod_backbone import MoDBackbone


class MoDVGG(MoDBackbone):
    """Mixin for mmpretrain's VGG, where a stage is the convolutions between two pooling layers.

    All arguments of mmpretrain's VGG keep their meanings and defaults. Every second convolution of
    a stage is an MoD block: VGG16 has one in each stage, VGG19 two in each of its last three.

    Args:
        depth (int): 11, 13, 16 or 19. The first two stages of VGG11 have one convolution each and
            no MoD block.
        norm_cfg (dict, optional): ``dict(type='BN')`` for VGG-BN, as in the paper. Defaults to
            None, no norm.
        act_cfg (dict): Defaults to ``dict(type='ReLU')``.
        **kwargs: The options of :class:`MoDBackbone`, where ``c`` defaults to 64, and the
            arguments of mmpretrain's VGG.

    Raises:
        ValueError: If ``depth`` is unknown, and as in :class:`MoDBackbone`.
    """

    family = 'VGG'

    def __init__(
        self,
        depth: int,
        *args,
        norm_cfg: dict | None = None,
        act_cfg: dict = dict(type='ReLU'),  # noqa: B006  (as in OpenMMLab; never modified)
        conv_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        check_choice(type(self).__name__, 'depth', depth, sorted(self.arch_settings))
        # mmpretrain's VGG does not keep them.
        self.layer_cfgs = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        super().__init__(depth, *args, **self.layer_cfgs, **kwargs)

    def blocks_of_stages(self) -> list[list[str]]:
        """The names of the convolutions, 'features.0' and so on, without the pooling layers."""
        return [
            [
                f'features.{i}'
                for i in range(*span)
                if not isinstance(self.features[i], nn.MaxPool2d)
            ]
            for span in self.range_sub_modules
        ]

    def default_c(self) -> int:
        """The width of the first stage: 64."""
        return self.features[0].out_channels

    def keeps_shape(self, block: nn.Module) -> bool:
        """Whether the convolution has as many channels out as in."""
        return block.in_channels == block.out_channels

    def conv_block(self, block: nn.Module) -> tuple[int, Callable[[int], nn.Module]]:
        """The width of a convolution, and a builder of its narrow copy for k channels."""
        dilation = block.dilation[0]
        return block.in_channels, partial(plain_conv, dilation=dilation, **self.layer_cfgs)
