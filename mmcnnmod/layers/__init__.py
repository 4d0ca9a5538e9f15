"""Section 3 of the paper, knowing no toolbox: selector, Conv-Block, fusion, block, placement."""

from .backends.mod_stage import become_mod_stage
from .backends.switch import choose_backend, use_backend
from .channel_selector import ChannelSelector, RandomSelector
from .conv_block import (
    basic_block,
    bottleneck,
    convnext_block,
    inverted_residual,
    plain_conv,
)
from .deploy import fold_norms
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
    'become_mod_stage',
    'bottleneck',
    'choose_backend',
    'convnext_block',
    'fold_norms',
    'inverted_residual',
    'plain_conv',
    'use_backend',
]
