"""The MoD backbones in mmpose's registry. Its ResNet has the structure of mmpretrain's."""

from mmpose.models.backbones import ResNet, ResNetV1d
from mmpose.registry import MODELS

from ..backbones import MoDResNet


@MODELS.register_module()
class ResNetMoD(MoDResNet, ResNet):
    """mmpose's ResNet with MoD blocks, see :class:`mmcnnmod.backbones.MoDResNet`."""


@MODELS.register_module()
class ResNetV1dMoD(MoDResNet, ResNetV1d):
    """mmpose's ResNetV1d (deep stem, average pooling in the shortcut) with MoD blocks."""
