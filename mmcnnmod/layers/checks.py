"""Checks of options. Errors have one line that names the block, the option and valid values."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import shown


def check_choice(name: str, option: str, value: object, choices: Collection) -> None:
    """Raise a ValueError unless ``value`` is one of ``choices``."""
    # A config may contain anything: lists are not hashable, and comparing arrays gives no bool.
    if not (isinstance(value, (str, int, float)) and value in choices):
        known = ', '.join(map(str, choices))
        raise ValueError(f'{name}: unknown {option} {shown(value)}; choose from {known}')


def check_positive_int(name: str, option: str, value: object, at_most: int | None = None) -> None:
    """Raise a ValueError unless ``value`` is an integer from 1 to ``at_most``, the width."""
    # In Python, True is an int, but here it is a mistake.
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'{name}: {option} must be a positive integer, got {shown(value)}')
    if at_most is not None and value > at_most:
        raise ValueError(
            f'{name}: {option}={value} is larger than the width, so that no channel is left '
            f'({at_most} // {value} = 0); choose {option} <= {at_most}'
        )
