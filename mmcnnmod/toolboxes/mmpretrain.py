"""The MoD backbones in mmpretrain's registry, and our configs in its model hub."""

from mmpretrain.models.backbones import (
    VGG,
    ConvNeXt,
    MobileNetV2,
    ResNet,
    ResNet_CIFAR,
    ResNetV1c,
    ResNetV1d,
)
from mmpretrain.registry import MODELS

from ..backbones import MoDConvNeXt, MoDMobileNetV2, MoDResNet, MoDVGG
from ..datasets.in_memory_preprocessor import InMemoryDataPreprocessor  # noqa: F401  (registers)
from .model_hub import register_models


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


@MODELS.register_module()
class MobileNetV2MoD(MoDMobileNetV2, MobileNetV2):
    """mmpretrain's MobileNetV2 with MoD blocks, see :class:`mmcnnmod.backbones.MoDMobileNetV2`."""


@MODELS.register_module()
class VGGMoD(MoDVGG, VGG):
    """mmpretrain's VGG with MoD blocks, see :class:`mmcnnmod.backbones.MoDVGG`."""


@MODELS.register_module()
class ConvNeXtMoD(MoDConvNeXt, ConvNeXt):
    """mmpretrain's ConvNeXt with MoD blocks, see :class:`mmcnnmod.backbones.MoDConvNeXt`."""


register_models()
