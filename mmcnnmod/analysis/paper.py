"""The numbers that the paper prints, from `paper_tables.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PRINTED_NUMBERS = Path(__file__).with_name('paper_tables.json')
# What the paper's numbers call torch's devices.
PAPER_DEVICES = {'cpu': 'cpu', 'cuda': 'gpu'}


@dataclass(frozen=True)
class Row:
    """A network of a table.

    Attributes:
        config (str): Name of the config, without folder and suffix.
        name (str): What the paper calls it.
        printed (Mapping[str, str]): The numbers by name: 'params' (in millions), 'macs', 'top1'
            or the task's scores, 'cpu_ms', 'gpu_ms', 'cpu_speedup', 'gpu_speedup'.
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
        """What is printed, or what should be."""
        return self.misprints[name]['should_be'] if name in self.misprints else self.printed[name]

    def why(self, name: str) -> str:
        """Why something else is expected than is printed; empty if it is not."""
        if name not in self.misprints:
            return ''
        return (
            f'{self.printed[name]} should be {self.expected(name)}: {self.misprints[name]["why"]}'
        )


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        number (int): As in the paper.
        title (str): What it is about.
        macs_unit (str): 'M', 'G' or 'T'.
        rows (list[Row]): In the paper's order.
        dense (str, optional): Where MACs compare only as ratios, the config of the dense row.
        convention (Mapping, optional): Another way of counting MACs: of which 'configs' (a
            pattern), 'within' which share ours must be, and 'why' it differs.
    """

    number: int
    title: str
    macs_unit: str
    rows: list[Row]
    dense: str | None = None
    convention: Mapping | None = None


def read_numbers(path: Path = PRINTED_NUMBERS) -> dict:
    """The content of the file.

    Args:
        path (Path): Defaults to the file of this package.

    Returns:
        dict: The 'tables' (see :func:`load_tables`), 'speed_measured_on', the paper's 'cpu' and
        'gpu' (Section 4), and 'without_numbers', the configs of the networks that it names
        without numbers (Section 3.2).
    """
    return json.loads(path.read_text(encoding='utf-8'))


def load_tables(path: Path = PRINTED_NUMBERS) -> list[Table]:
    """Tables 1, 2, 3, 4, 7 and 9."""
    tables = read_numbers(path)['tables']
    return [Table(**{**table, 'rows': [Row(**row) for row in table['rows']]}) for table in tables]


def find_row(config: str) -> Row | None:
    """The row of a config; None if the paper prints nothing of it."""
    rows = (row for table in load_tables() for row in table.rows if row.config == config)
    return next(rows, None)
