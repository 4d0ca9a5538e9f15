"""Reading checkpoints without surprises."""

from .dense import DensePretrained
from .dense_resnet import has_mod_blocks
from .matching import Match, match_state_dicts, refuse_foreign_checkpoints
from .reading import is_trusting, read_checkpoint, read_state_dict, safe_loading, weights_of
from .remap import rename_tensors, renames
from .warm_start import start_from_dense

__all__ = [
    'DensePretrained',
    'Match',
    'has_mod_blocks',
    'is_trusting',
    'match_state_dicts',
    'read_checkpoint',
    'read_state_dict',
    'refuse_foreign_checkpoints',
    'rename_tensors',
    'renames',
    'safe_loading',
    'start_from_dense',
    'weights_of',
]
