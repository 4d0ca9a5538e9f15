"""From a dense config to its MoD version, wherever the model keeps its backbone."""

from .swap import add_custom_import, swap_backbone

__all__ = ['add_custom_import', 'swap_backbone']
