"""The MoD backbones in mmsegmentation's registry."""

from mmseg.models.backbones import MobileNetV2, ResNet, ResNetV1c, ResNetV1d
from mmseg.registry import MODELS

from ..backbones import MoDMobileNetV2, MoDResNet


@MODELS.register_module()
class ResNetMoD(MoDResNet, ResNet):
    """mmsegmentation's ResNet with MoD blocks, see :class:`mmcnnmod.backbones.MoDResNet`."""


@MODELS.register_module()
class ResNetV1cMoD(MoDResNet, ResNetV1c):
    """mmsegmentation's ResNetV1c (deep stem) with MoD blocks."""


@MODELS.register_module()
class ResNetV1dMoD(MoDResNet, ResNetV1d):
    """mmsegmentation's ResNetV1d (deep stem, average pooling in the shortcut) with MoD blocks."""


@MODELS.register_module()
class MobileNetV2MoD(MoDMobileNetV2, MobileNetV2):
    """mmsegmentation's MobileNetV2 with MoD blocks.

    See :class:`mmcnnmod.backbones.MoDMobileNetV2`.
    """
