"""The MoD backbones of mmdetection, in its registry (which has no ResNetV1c)."""

from mmdet.models.backbones import ResNet, ResNetV1d
from mmdet.registry import MODELS

from ..backbones import MoDResNet


@MODELS.register_module()
class ResNetMoD(MoDResNet, ResNet):
    """mmdetection's ResNet with MoD blocks, see :class:`mmcnnmod.backbones.MoDResNet`."""


@MODELS.register_module()
class ResNetV1dMoD(MoDResNet, ResNetV1d):
    """mmdetection's ResNetV1d (deep stem, average pooling in the shortcut) with MoD blocks."""
