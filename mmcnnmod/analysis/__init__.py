"""What the networks cost and what their selectors choose."""

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
