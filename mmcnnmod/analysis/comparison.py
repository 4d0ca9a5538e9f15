"""Whether the counts of built models agree with what the paper prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatch

from .counting import Count
from .paper import Row, Table

UNITS = {'M': 1e6, 'G': 1e9, 'T': 1e12}


class Verdict(Enum):
    """How a printed value and ours compare; the value is the mark in the tables."""

    AGREES = '✓'  # to the last printed digit
    CLOSE = '≈'  # as near as another convention of counting explains
    MISPRINT = '†'  # agrees with what should have been printed
    DISAGREES = '✗'


@dataclass(frozen=True)
class Comparison:
    """A printed value beside ours, in the same unit and with more digits, and why they differ."""

    printed: str
    ours: str
    verdict: Verdict
    why: str = ''


def compare(table: Table, row: Row, counts: Mapping[str, Count]) -> dict[str, Comparison]:
    """Compare the numbers that a row of a table prints with our counts, by config.

    Returns:
        dict[str, Comparison]: Of 'params', and of 'macs' unless only ratios compare and the row
        is the dense one.
    """
    count = counts[row.config]
    found = {'params': compare_digits(row, 'params', count.params / 1e6)}
    if table.dense is None:
        found['macs'] = compare_macs(table, row, count)
    elif table.dense != row.config:
        (dense,) = (other.printed['macs'] for other in table.rows if other.config == table.dense)
        found['macs'] = compare_ratio(row, dense, count.macs / counts[table.dense].macs)
    return found


def compare_digits(row: Row, name: str, value: float) -> Comparison:
    """Compare to the printed digit, a misprint with what should have been printed."""
    printed, expected = row.printed[name], row.expected(name)
    ours = with_digits(value, printed, more=2)
    if with_digits(value, printed) == printed:
        return Comparison(printed, ours, Verdict.AGREES)
    if with_digits(value, expected) == expected:
        return Comparison(printed, ours, Verdict.MISPRINT, row.why(name))
    return Comparison(printed, ours, Verdict.DISAGREES)


def compare_macs(table: Table, row: Row, count: Count) -> Comparison:
    """Compare to the printed digit, or within what the table's convention explains."""
    macs, expected = count.macs / UNITS[table.macs_unit], row.expected('macs')
    found, share = compare_digits(row, 'macs', macs), macs / float(expected) - 1
    other = table.convention or {'configs': '', 'within': 0}
    explained = fnmatch(row.config, other['configs']) and abs(share) <= other['within']
    if found.verdict is not Verdict.DISAGREES or not explained:
        return found
    once = (count.macs - count.relu_macs) / UNITS[table.macs_unit]
    once = with_digits(once, expected, more=2)
    why = f'{share:+.2%} from {expected}; {once} with every ReLU counted once'
    if misprint := row.why('macs'):
        return Comparison(found.printed, found.ours, Verdict.MISPRINT, f'{misprint}; ours is {why}')
    return Comparison(found.printed, found.ours, Verdict.CLOSE, why)


def compare_ratio(row: Row, dense: str, ratio: float) -> Comparison:
    """Compare MACs as a ratio to the dense row's: it must be one that the rounded numbers allow."""
    macs, why = row.expected('macs'), row.why('macs')
    least, most = bounds(dense)
    low, high = bounds(macs)[0] / most, bounds(macs)[1] / least
    verdict = Verdict.MISPRINT if why else Verdict.AGREES
    if not low <= ratio <= high:
        verdict, why = Verdict.DISAGREES, ''
    printed = f'{macs} / {dense} = {low:.3f} to {high:.3f}'
    return Comparison(printed, f'{ratio:.3f}', verdict, why)


def with_digits(value: float, printed: str, more: int = 0) -> str:
    """A value with as many decimals as a printed one, or some more."""
    decimals = len(printed.partition('.')[2])
    return f'{value:.{decimals + more}f}'


def bounds(printed: str) -> tuple[float, float]:
    """The least and the largest number that are rounded to a printed one."""
    half_digit = 0.5 * 10 ** -len(printed.partition('.')[2])
    return float(printed) - half_digit, float(printed) + half_digit
