"""One-line errors for bad options; each names the block, the option and what would do."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import shown


def check_choice(name: str, option: str, value: object, choices: Collection) -> None:
    """Raise a ValueError unless ``value`` is one of ``choices``."""
    # A config may hold anything: a list has no hash, and an array's comparison is no bool.
    if not (isinstance(value, (str, int, float)) and value in choices):
        known = ', '.join(map(str, choices))
        raise ValueError(f'{name}: unknown {option} {shown(value)}; choose from {known}')


def check_positive_int(name: str, option: str, value: object, at_most: int | None = None) -> None:
    """Raise a ValueError unless ``value`` is an integer from 1 to ``at_most``, the width."""
    # True is an int to Python, but as a divisor it is a mistake in a config.
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'{name}: {option} must be a positive integer, got {shown(value)}')
    if at_most is not None and value > at_most:
        raise ValueError(
            f'{name}: {option}={value} is larger than the width, so that no channel is left '
            f'({at_most} // {value} = 0); choose {option} <= {at_most}'
        )
