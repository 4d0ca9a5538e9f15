"""Replaces the backbones of a dense config with their MoD versions."""

from .backbone_refs import iter_dicts, scope_of
from .swap import add_custom_import, swap_backbone, swap_with
from .weights import takes_warm_start

__all__ = [
    'add_custom_import',
    'iter_dicts',
    'scope_of',
    'swap_backbone',
    'swap_with',
    'takes_warm_start',
]
