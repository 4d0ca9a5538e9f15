"""What MoD does to each family of networks, for every toolbox."""

from .mod_backbone import MoDBackbone
from .resnet import MoDResNet

__all__ = ['MoDBackbone', 'MoDResNet']
