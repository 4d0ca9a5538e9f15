"""Safe reading of checkpoints, warm start from dense weights, and publishing."""

from .dense import (
    MAPPINGS,
    NEAR_IDENTITY,
    DensePretrained,
    start_from_dense,
    start_model_from_dense,
)
from .key_styles import leading_prefix, networks_in, rename_tensors
from .matching import (
    Match,
    describe_contents,
    has_mod_blocks,
    judge,
    load_pretrained,
    match_state_dicts,
    mod_backbones,
)
from .reading import (
    is_trusting,
    raw_weights_of,
    read_checkpoint,
    read_state_dict,
    safe_loading,
    weights_of,
)

__all__ = [
    'MAPPINGS',
    'NEAR_IDENTITY',
    'DensePretrained',
    'Match',
    'describe_contents',
    'has_mod_blocks',
    'is_trusting',
    'judge',
    'leading_prefix',
    'load_pretrained',
    'match_state_dicts',
    'mod_backbones',
    'networks_in',
    'raw_weights_of',
    'read_checkpoint',
    'read_state_dict',
    'rename_tensors',
    'safe_loading',
    'start_from_dense',
    'start_model_from_dense',
    'weights_of',
]
