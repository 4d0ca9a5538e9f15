"""The numbers that the paper prints, from `paper_tables.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PRINTED_NUMBERS = Path(__file__).with_name('paper_tables.json')


@dataclass(frozen=True)
class Misprint:
    """A printed value that is not what the paper's other rows count."""

    should_be: str
    why: str


@dataclass(frozen=True)
class Convention:
    """A table's other way of counting MACs.

    Attributes:
        configs (str): Pattern of the configs that were counted so.
        within (float): How near the MACs must be, as a share.
        why (str): What is counted otherwise.
    """

    configs: str
    within: float
    why: str


@dataclass(frozen=True)
class Row:
    """A network of a table.

    Attributes:
        config (str): Name of the config, without folder and suffix.
        name (str): What the paper calls it.
        baseline (str | None): Config of the row to which its speed-up refers.
        printed (Mapping[str, str]): The numbers by name: 'params' (in millions), 'macs', 'top1'
            or the task's scores, 'cpu_ms', 'gpu_ms', 'cpu_speedup', 'gpu_speedup'.
        misprints (Mapping[str, Misprint]): Those among them that are misprints.
    """

    config: str
    name: str
    baseline: str | None
    printed: Mapping[str, str]
    misprints: Mapping[str, Misprint]

    def expected(self, value: str) -> str:
        """What is printed, or what should be."""
        return self.misprints[value].should_be if value in self.misprints else self.printed[value]

    def why(self, value: str) -> str:
        """Why something else is expected than is printed; empty if it is not."""
        if value not in self.misprints:
            return ''
        misprint = self.misprints[value]
        return f'{self.printed[value]} should be {misprint.should_be}: {misprint.why}'


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        number (int): As in the paper.
        title (str): What it is about.
        macs_unit (str): 'M', 'G' or 'T'.
        rows (list[Row]): In the paper's order.
        dense (str | None): Where MACs compare only as ratios, the config of the dense row.
        convention (Convention | None): How its MACs were counted otherwise, if they were.
    """

    number: int
    title: str
    macs_unit: str
    rows: list[Row] = field(repr=False)
    dense: str | None = None
    convention: Convention | None = None


def load_tables(path: Path = PRINTED_NUMBERS) -> list[Table]:
    """Read the printed numbers.

    Args:
        path (Path): Defaults to the file of this package.

    Returns:
        list[Table]: Tables 1, 2, 3, 4, 7 and 9.
    """
    content = read(path)
    return [make_table(node, content['misprints']) for node in content['tables']]


def configs_without_numbers(path: Path = PRINTED_NUMBERS) -> list[str]:
    """The configs of the networks that the paper names and gives no numbers for (Section 3.2)."""
    return read(path)['without_numbers']


def speed_machine(path: Path = PRINTED_NUMBERS) -> dict[str, str]:
    """The 'cpu' and the 'gpu' on which the paper measured speed (Section 4)."""
    return read(path)['speed_measured_on']


def read(path: Path) -> dict:
    """The content of the file."""
    return json.loads(path.read_text(encoding='utf-8'))


def make_table(node: dict, misprints: list[dict]) -> Table:
    """A table from its part of the file."""
    return Table(
        node['number'],
        node['title'],
        node['macs_unit'],
        [
            make_row(row, [entry for entry in misprints if entry['table'] == node['number']])
            for row in node['rows']
        ],
        node.get('dense'),
        Convention(**node['convention']) if 'convention' in node else None,
    )


def make_row(node: dict, misprints: list[dict]) -> Row:
    """A row from its part of the file and the misprints of its table."""
    texts = {key: node.get(key) for key in ('config', 'name', 'baseline')}
    printed = {key: text for key, text in node.items() if key not in texts}
    own = {
        entry['value']: Misprint(entry['should_be'], entry['why'])
        for entry in misprints
        if entry['config'] == node['config']
    }
    return Row(**texts, printed=printed, misprints=own)
