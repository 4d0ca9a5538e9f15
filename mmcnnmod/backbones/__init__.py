"""Mixins that add MoD blocks to the families of networks in any toolbox."""

from .convnext import MoDConvNeXt
from .mobilenet_v2 import MoDMobileNetV2
from .mod_backbone import MoDBackbone, names_below, switch_to_deploy
from .resnet import MoDResNet
from .vgg import MoDVGG

__all__ = [
    'MoDBackbone',
    'MoDConvNeXt',
    'MoDMobileNetV2',
    'MoDResNet',
    'MoDVGG',
    'names_below',
    'switch_to_deploy',
]
