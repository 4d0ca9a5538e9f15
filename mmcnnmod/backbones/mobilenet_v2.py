"""MobileNetV2-MoD: MoD applied to a toolbox's MobileNetV2 (Tables 2 and 6)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..layers import inverted_residual
from ..layers.checks import check_choice
from .mod_backbone import MoDBackbone, names_below

# Output widths of the seven stages (Table 6).
WIDTHS = {
    'standard': (16, 24, 32, 64, 96, 160, 320),
    'large': (16, 32, 64, 96, 128, 160, 320),
}


class MoDMobileNetV2(MoDBackbone):
    """Mixin for the MobileNetV2 classes of mmpretrain, mmsegmentation and mmdetection.

    All arguments of the toolbox's MobileNetV2 keep their meanings and defaults. The dilation of a
    stage, ``conv_cfg``, ``norm_cfg``, ``act_cfg`` and ``with_cp`` apply to the MoD blocks as well.

    Args:
        arch (str): 'standard', or 'large' with the wider stages of MobileNetV2-MoD-L (Table 6).
            Defaults to 'standard'.
        **kwargs: The options of :class:`MoDBackbone`, where ``c`` defaults to 16 (8 with
            ``widen_factor=0.5``), and the arguments of the toolbox's class. Below
            ``widen_factor=0.5`` the first stage is narrower than 16 and needs ``r=8``.

    Raises:
        ValueError: If ``arch`` is unknown, and as in :class:`MoDBackbone`.
    """

    family = 'MobileNetV2'

    def __init__(self, *args, arch: str = 'standard', **kwargs) -> None:
        check_choice(type(self).__name__, 'arch', arch, WIDTHS)
        self.arch_settings = [
            [expand_ratio, width, *rest]
            for (expand_ratio, _, *rest), width in zip(
                self.arch_settings, WIDTHS[arch], strict=True
            )
        ]
        super().__init__(*args, **kwargs)

    def blocks_of_stages(self) -> list[list[str]]:
        """The names of the inverted residuals in 'layer1' to 'layer7'; 'conv2' is not a stage."""
        return [names_below(self, layer) for layer in self.layers if layer != 'conv2']

    def default_c(self) -> int:
        """The output width of the first stage with inverted residuals: 16."""
        return convolutions(self.layer1)[-1].out_channels

    def keeps_shape(self, block: nn.Module) -> bool:
        """Whether the block has a shortcut."""
        first, *_, last = convolutions(block)
        return depthwise(block).stride == (1, 1) and first.in_channels == last.out_channels

    def conv_block(self, block: nn.Module) -> tuple[int, Callable[[int], nn.Module]]:
        """The width of a standard block, and a builder of its narrow copy for k channels."""
        conv = depthwise(block)
        cfgs = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)

        def build(k: int) -> nn.Module:
            # floor(t * C / c), not t * k, gives the 220.56 MMAC of the paper.
            hidden_channels = conv.out_channels // self.c
            return inverted_residual(k, hidden_channels, dilation=conv.dilation[0], **cfgs)

        return convolutions(block)[0].in_channels, build


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """The convolutions of a block or stage, in order."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def depthwise(block: nn.Module) -> nn.Conv2d:
    """The depthwise convolution of an inverted residual: the only one that is not 1x1."""
    return next(conv for conv in convolutions(block) if conv.kernel_size != (1, 1))
