"""The numbers that the paper prints, from `paper_tables.json`, compared with our counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from fnmatch import fnmatch
from pathlib import Path

from .counting import Count

PRINTED_NUMBERS = Path(__file__).with_name('paper_tables.json')
PAPER_DEVICES = {'cpu': 'cpu', 'cuda': 'gpu'}  # torch's names: those in the paper's numbers
UNITS = {'M': 1e6, 'G': 1e9, 'T': 1e12}


@dataclass(frozen=True)
class Row:
    """A network of a table.

    Attributes:
        config (str): Name of the config, without folder and suffix.
        name (str): The paper's name.
        printed (Mapping[str, str]): The printed numbers by name: 'params' (in millions), 'macs',
            'top1' or the task's scores, 'cpu_ms', 'gpu_ms', 'cpu_speedup', 'gpu_speedup'.
        baseline (str, optional): Config of the row to which its speed-up refers. Defaults to None.
        misprints (Mapping[str, Mapping[str, str]]): The misprints among the numbers, by name: what
            is 'printed', what it 'should_be' and 'why'. Defaults to none.
    """

    config: str
    name: str
    printed: Mapping[str, str]
    baseline: str | None = None
    misprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def expected(self, name: str) -> str:
        """The printed number, or its correction if it is a misprint."""
        return self.misprints[name]['should_be'] if name in self.misprints else self.printed[name]

    def why(self, name: str) -> str:
        """The reason for a correction; empty if the number is not a misprint."""
        if name not in self.misprints:
            return ''
        return (
            f'{self.printed[name]} should be {self.expected(name)}: {self.misprints[name]["why"]}'
        )


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        number (int): The paper's number.
        title (str): What it is about.
        macs_unit (str): 'M', 'G' or 'T'.
        rows (list[Row]): In the paper's order.
        dense (str, optional): Config of the dense row, if only the ratios of MACs to its MACs can
            be compared. Defaults to None.
        convention (Mapping, optional): Another way of counting MACs: the 'configs' that use it (a
            pattern), 'within' which share the counts agree, and 'why'. Defaults to None.
    """

    number: int
    title: str
    macs_unit: str
    rows: list[Row]
    dense: str | None = None
    convention: Mapping | None = None


class Verdict(Enum):
    """The result of a comparison; the value is its mark in the tables."""

    AGREES = '✓'  # to the last printed digit
    CLOSE = '≈'  # another convention of counting explains the difference
    MISPRINT = '†'  # agrees with what should have been printed
    DISAGREES = '✗'


@dataclass(frozen=True)
class Comparison:
    """A printed value, our value in the same unit with more digits, and why they differ."""

    printed: str
    ours: str
    verdict: Verdict
    why: str = ''


def read_numbers(path: Path = PRINTED_NUMBERS) -> dict:
    """Read the file.

    Args:
        path (Path): Defaults to the file of this package.

    Returns:
        dict: The 'tables' (see :func:`load_tables`); 'speed_measured_on', the names of the paper's
        'cpu' and 'gpu' (Section 4); and 'without_numbers', the configs of the networks that the
        paper mentions without numbers (Section 3.2).
    """
    return json.loads(path.read_text(encoding='utf-8'))


def load_tables(path: Path = PRINTED_NUMBERS) -> list[Table]:
    """Tables 1, 2, 3, 4, 7 and 9."""
    tables = read_numbers(path)['tables']
    return [Table(**{**table, 'rows': [Row(**row) for row in table['rows']]}) for table in tables]


def find_row(config: str) -> Row | None:
    """The row of a config; None if no table contains it."""
    rows = (row for table in load_tables() for row in table.rows if row.config == config)
    return next(rows, None)


def compare(table: Table, row: Row, counts: Mapping[str, Count]) -> dict[str, Comparison]:
    """Compare our counts with the numbers that a row prints.

    Args:
        table (Table): The table.
        row (Row): One of its rows.
        counts (Mapping[str, Count]): By config: the row's, and the dense row's if there is one.

    Returns:
        dict[str, Comparison]: By name: 'params' and 'macs'. The dense row of a table whose MACs
        are compared as ratios has no 'macs'.
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
    """Compare to the last printed digit."""
    printed, expected = row.printed[name], row.expected(name)
    ours = with_digits(value, printed, more=2)
    if with_digits(value, printed) == printed:
        return Comparison(printed, ours, Verdict.AGREES)
    if with_digits(value, expected) == expected:
        return Comparison(printed, ours, Verdict.MISPRINT, row.why(name))
    return Comparison(printed, ours, Verdict.DISAGREES)


def compare_macs(table: Table, row: Row, count: Count) -> Comparison:
    """Compare to the last printed digit, or within what the table's convention explains."""
    unit, expected = UNITS[table.macs_unit], row.expected('macs')
    found = compare_digits(row, 'macs', count.macs / unit)
    convention, share = table.convention, count.macs / unit / float(expected) - 1
    if (
        found.verdict is not Verdict.DISAGREES
        or convention is None
        or not fnmatch(row.config, convention['configs'])
        or abs(share) > convention['within']
    ):
        return found
    once = with_digits((count.macs - count.relu_macs) / unit, expected, more=2)
    why = f'{share:+.2%} from {expected}; {once} with every ReLU counted once'
    if misprint := row.why('macs'):
        return replace(found, verdict=Verdict.MISPRINT, why=f'{misprint}; ours is {why}')
    return replace(found, verdict=Verdict.CLOSE, why=why)


def compare_ratio(row: Row, dense: str, ratio: float) -> Comparison:
    """Compare MACs as a ratio to the dense row's, which rounding leaves uncertain."""
    macs, why = row.expected('macs'), row.why('macs')
    least, most = bounds(dense)
    low, high = bounds(macs)[0] / most, bounds(macs)[1] / least
    verdict = Verdict.MISPRINT if why else Verdict.AGREES
    if not low <= ratio <= high:
        verdict, why = Verdict.DISAGREES, ''
    printed = f'{macs} / {dense} = {low:.3f} to {high:.3f}'
    return Comparison(printed, f'{ratio:.3f}', verdict, why)


def with_digits(value: float, printed: str, more: int = 0) -> str:
    """Format a value with as many decimals as a printed one, and ``more``."""
    decimals = len(printed.partition('.')[2])
    return f'{value:.{decimals + more}f}'


def bounds(printed: str) -> tuple[float, float]:
    """The smallest and the largest number that round to a printed one."""
    half_digit = 0.5 * 10 ** -len(printed.partition('.')[2])
    return float(printed) - half_digit, float(printed) + half_digit
