"""One-line errors for bad options; each names the block, the option and what would do."""

from __future__ import annotations

from collections.abc import Sequence


def check_choice(name: str, option: str, value: object, choices: Sequence) -> None:
    """Raise a ValueError unless ``value`` is one of ``choices``."""
    # By comparison: a list, as a config may hold, has no hash.
    if not any(value == choice for choice in choices):
        known = ', '.join(map(str, choices))
        raise ValueError(f'{name}: unknown {option} {value!r}; choose from {known}')


def check_positive_int(name: str, option: str, value: object, at_most: int) -> None:
    """Raise a ValueError unless ``value`` is an integer from 1 to ``at_most``, the width."""
    # True is an int to Python, but as a divisor it is a mistake in a config.
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'{name}: {option} must be a positive integer, got {value!r}')
    if value > at_most:
        raise ValueError(
            f'{name}: {option}={value} is larger than the width, so that no channel is left '
            f'({at_most} // {value} = 0); choose {option} <= {at_most}'
        )
