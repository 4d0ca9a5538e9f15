"""Hooks for training and testing with mmengine's runner."""

from .channel_usage_hook import ChannelUsageHook
from .channels_last_hook import ChannelsLastHook
from .deploy_hook import DeployHook
from .finite_loss_hook import FiniteLossHook
from .reestimate_norms_hook import ReestimateNormsHook
from .runtime_stats_hook import RuntimeStatsHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .termination_hook import TerminationHook

__all__ = [
    'ChannelUsageHook',
    'ChannelsLastHook',
    'DeployHook',
    'FiniteLossHook',
    'ReestimateNormsHook',
    'RuntimeStatsHook',
    'SafeCheckpointHook',
    'TerminationHook',
]
