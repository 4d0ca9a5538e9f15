"""Our classifiers in mmpretrain's model hub."""

import functools
import logging
from pathlib import Path

from mmpretrain.apis import ModelHub

from ..errors import cause

PACKAGE = Path(__file__).resolve().parents[1]
# Only classifiers: the hub builds all models with mmpretrain's registry.
METAFILE = 'configs/metafile-mmpretrain.yml'


@functools.cache  # the hub refuses to register a name twice
def register_models() -> None:
    """Let ``mmpretrain.list_models`` list our classifiers, and ``mmpretrain.get_model`` build them.

    The configs are in the package's `.mim`, or next to the package in a source tree that was not
    installed. If they are missing or damaged, this logs a warning, and the backbones still work.
    """
    mim = PACKAGE / '.mim'
    root = next((r for r in (mim, PACKAGE.parent) if (r / METAFILE).is_file()), mim)
    try:
        ModelHub.register_model_index(root / METAFILE, config_prefix=root)
    except Exception as problem:  # the parser can raise any error for a damaged file
        logging.getLogger(__name__).warning(
            'mmcnnmod: mmpretrain.get_model lacks our names: %s does not load (%s); '
            'if it is missing or damaged, install mmcnnmod again',
            root / METAFILE,
            cause(problem),
        )
