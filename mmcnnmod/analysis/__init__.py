"""Measure the cost of networks, and record which channels their selectors select."""

from .channel_usage import (
    ChannelUsage,
    add_selections,
    mod_blocks,
    recorded_selections,
    selection_entropy,
    share_selected,
)

__all__ = [
    'ChannelUsage',
    'add_selections',
    'mod_blocks',
    'recorded_selections',
    'selection_entropy',
    'share_selected',
]
