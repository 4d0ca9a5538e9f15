"""The configs of mmpretrain's kind by name, in its model hub."""

import functools
import logging
from pathlib import Path

from mmpretrain.apis import ModelHub

from ..errors import cause

PACKAGE = Path(__file__).resolve().parents[1]
# Without the segmentors and detectors: the hub builds everything with mmpretrain's registry.
METAFILE = 'configs/metafile-mmpretrain.yml'


@functools.cache  # the hub refuses a name that it has
def register_models() -> None:
    """Let ``mmpretrain.list_models`` list our classifiers, and ``mmpretrain.get_model`` build them.

    The configs lie in the package's `.mim`, or beside the package in a source tree that was not
    installed. A hub without them is no reason to go without the backbones: what is missing or
    damaged is named in one warning.
    """
    mim = PACKAGE / '.mim'
    root = next((r for r in (mim, PACKAGE.parent) if (r / METAFILE).is_file()), mim)
    try:
        ModelHub.register_model_index(root / METAFILE, config_prefix=root)
    except Exception as problem:  # whatever a parser meets in a damaged file
        logging.getLogger(__name__).warning(
            'mmcnnmod: mmpretrain.get_model lacks our names: %s does not load (%s); '
            'if it is missing or damaged, install mmcnnmod again',
            root / METAFILE,
            cause(problem),
        )
