"""What takes part in training: hooks for mmengine's runner."""

from .channel_usage_hook import ChannelUsageHook
from .reestimate_norms_hook import ReestimateNormsHook

__all__ = ['ChannelUsageHook', 'ReestimateNormsHook']
