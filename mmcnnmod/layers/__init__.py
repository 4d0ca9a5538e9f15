"""Section 3 of the paper: selector, Conv-Block, fusion, block, placement.

The layers need torch and ``mmcv.cnn``, and no toolbox.
"""

from .channel_selector import ChannelSelector, RandomSelector
from .conv_block import (
    basic_block,
    bottleneck,
    convnext_block,
    inverted_residual,
    plain_conv,
)
from .fusion import Fusion
from .mod_block import MoDBlock
from .placement import Placement

__all__ = [
    'ChannelSelector',
    'Fusion',
    'MoDBlock',
    'Placement',
    'RandomSelector',
    'basic_block',
    'bottleneck',
    'convnext_block',
    'inverted_residual',
    'plain_conv',
]
