"""What takes part in training: hooks for mmengine's runner."""

from .channel_usage_hook import ChannelUsageHook
from .channels_last_hook import ChannelsLastHook
from .deploy_hook import DeployHook
from .reestimate_norms_hook import ReestimateNormsHook
from .run_facts_hook import RunFactsHook

__all__ = [
    'ChannelUsageHook',
    'ChannelsLastHook',
    'DeployHook',
    'ReestimateNormsHook',
    'RunFactsHook',
]
