"""What takes part in training: hooks for mmengine's runner."""

from .channel_usage_hook import ChannelUsageHook

__all__ = ['ChannelUsageHook']
