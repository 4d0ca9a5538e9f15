"""CNN Mixture-of-Depths (arXiv 2409.17016) for mmpretrain, mmsegmentation and mmdetection.

Importing the package registers the MoD backbones in every toolbox that is installed, and hooks and
data sets in mmengine; in a config: ``custom_imports = dict(imports=['mmcnnmod'])``.
"""

from contextlib import suppress

from .swap import swap_backbone
from .toolboxes import register_all
from .version import __version__

__all__ = ['__version__', 'swap_backbone']

register_all()
# Without mmengine or mmcv there is no runner for hooks; the tools report what is missing.
with suppress(ImportError):
    from . import datasets, engine  # noqa: F401
    from .backbones import switch_to_deploy

    __all__ += ['switch_to_deploy']
