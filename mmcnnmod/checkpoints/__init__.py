"""Reading and writing checkpoints without surprises."""

from ..files import atomic_write
from .dense import DensePretrained
from .dense_network import leading_prefix
from .key_styles import networks_in
from .matching import Match, has_mod_blocks, judge, match_state_dicts, mod_backbones
from .pretrained import describe_contents, load_pretrained
from .reading import (
    is_trusting,
    raw_weights_of,
    read_checkpoint,
    read_state_dict,
    safe_loading,
    weights_of,
)
from .remap import rename_tensors, renames
from .warm_start import start_from_dense

__all__ = [
    'DensePretrained',
    'Match',
    'atomic_write',
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
    'renames',
    'safe_loading',
    'start_from_dense',
    'weights_of',
]
