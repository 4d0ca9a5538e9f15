"""Reading checkpoints without surprises."""

from .matching import Match, match_state_dicts, refuse_foreign_checkpoints

__all__ = ['Match', 'match_state_dicts', 'refuse_foreign_checkpoints']
