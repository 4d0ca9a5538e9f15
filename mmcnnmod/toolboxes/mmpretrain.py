"""The MoD backbones of mmpretrain, in its registry."""

from mmpretrain.models.backbones import ResNet, ResNet_CIFAR, ResNetV1c, ResNetV1d
from mmpretrain.registry import MODELS

from ..backbones import MoDResNet


@MODELS.register_module()
class ResNetMoD(MoDResNet, ResNet):
    """mmpretrain's ResNet with MoD blocks, see :class:`mmcnnmod.backbones.MoDResNet`."""


@MODELS.register_module()
class ResNetV1cMoD(MoDResNet, ResNetV1c):
    """mmpretrain's ResNetV1c (deep stem) with MoD blocks."""


@MODELS.register_module()
class ResNetV1dMoD(MoDResNet, ResNetV1d):
    """mmpretrain's ResNetV1d (deep stem, average pooling in the shortcut) with MoD blocks."""


@MODELS.register_module()
class ResNetMoD_CIFAR(MoDResNet, ResNet_CIFAR):
    """mmpretrain's ResNet for 32x32 images (3x3 stem, no max-pool) with MoD blocks (Table 9)."""
