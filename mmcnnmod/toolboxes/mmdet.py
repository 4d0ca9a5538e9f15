"""The MoD backbones in mmdetection's registry. It has no ResNetV1c."""

from mmdet.models.backbones import MobileNetV2, ResNet, ResNetV1d
from mmdet.registry import MODELS

from ..backbones import MoDMobileNetV2, MoDResNet


@MODELS.register_module()
class ResNetMoD(MoDResNet, ResNet):
    """mmdetection's ResNet with MoD blocks, see :class:`mmcnnmod.backbones.MoDResNet`."""


@MODELS.register_module()
class ResNetV1dMoD(MoDResNet, ResNetV1d):
    """mmdetection's ResNetV1d (deep stem, average pooling in the shortcut) with MoD blocks."""


@MODELS.register_module()
class MobileNetV2MoD(MoDMobileNetV2, MobileNetV2):
    """mmdetection's MobileNetV2 with MoD blocks.

    See :class:`mmcnnmod.backbones.MoDMobileNetV2`.
    """
