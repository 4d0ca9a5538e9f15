"""CNN Mixture-of-Depths (arXiv 2409.17016) for mmpretrain, mmsegmentation and mmdetection.

Importing the package registers the MoD backbones in every toolbox that is installed; in a config:
``custom_imports = dict(imports=['mmcnnmod'])``.
"""

from .toolboxes import register_all
from .version import __version__

register_all()

__all__ = ['__version__']
