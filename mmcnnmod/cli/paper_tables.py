"""tools/analysis_tools/paper_tables.py: the paper's tables, printed beside counted."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path

from ..analysis.comparison import UNITS, Comparison, Verdict, compare
from ..analysis.counting import Count
from ..analysis.files import check_folder
from ..analysis.markdown import paper_table, speed_table, summary
from ..analysis.measurements import read_speed
from ..analysis.model_table import model_table
from ..analysis.paper import Table, configs_without_numbers, load_tables, speed_machine
from ..checkpoints import atomic_write
from ..errors import UserError
from .counting import config_folder, count_all
from .errors import one_line_errors
from .machine import versions

BEGIN, END = '<!-- models: written by tools/analysis_tools/paper_tables.py -->', '<!-- /models -->'


def main(argv: list[str] | None = None) -> None:
    """Count, print and write as the command line says.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
    args = parse(argv)
    with one_line_errors(args.debug):
        check_folder(args.json)
        tables = choose_tables(args.tables)
        speed = read_speed(args.speed) if args.speed else None
        frame = around_marks(args.write) if args.write else None
        others = [
            name
            for name in (configs_without_numbers() if args.write else [])
            if (args.configs / f'{name}.py').is_file()
        ]
        counts = count_all(args.configs, [*largest_first(tables), *others], args.jobs)
        compared = {
            table.number: {row.config: compare(table, row, counts) for row in table.rows}
            for table in tables
        }

        print(f'{counted_by()}\n')
        for table in tables:
            lines = paper_table(table, compared[table.number])
            lines += speed_table(table, speed, speed_machine()) if speed else []
            print('\n'.join(lines) + '\n')
        print(summary([found for _, found in flat(tables, compared)]))
        if args.json:
            write_json(args.json, tables, counts, compared)
        if frame:
            lines = [BEGIN, counted_by(), '', *model_table(tables, counts, others), END]
            write_text(args.write, '\n'.join(lines).join(frame))
        if args.check:
            check(tables, compared)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description="Print the paper's tables with the parameters and MACs of our networks, "
        'counted on the built models, beside the printed ones.'
    )
    add = parser.add_argument
    add('--tables', type=int, nargs='+', metavar='N', help='only these; by default all')
    add('--json', type=Path, metavar='FILE', help='write counts and comparisons')
    add(
        '--check',
        action='store_true',
        help="exit with 1 if a value disagrees that is not on the short list of the paper's "
        'misprints (in mmcnnmod/analysis/paper_tables.json)',
    )
    add(
        '--speed',
        type=Path,
        metavar='FILE',
        help="show the times of this benchmark's JSON beside the paper's",
    )
    add('--write', type=Path, metavar='FILE', help='put the model table between the marks in it')
    add(
        '--configs',
        type=Path,
        metavar='DIR',
        default=config_folder(),
        help='where the configs are; by default those of the project',
    )
    add('--jobs', type=int, metavar='N', help='processes; by default one per CPU, at most 4')
    add('--debug', action='store_true', help='show the traceback of an error as well')
    args = parser.parse_args(argv)
    if args.write and args.tables:
        parser.error('--write needs all tables: leave out --tables')
    return args


def choose_tables(numbers: Sequence[int] | None) -> list[Table]:
    """The tables that were asked for."""
    tables = load_tables()
    known = [table.number for table in tables]
    for number in numbers or []:
        if number not in known:
            raise UserError(f'--tables {number}: choose from {", ".join(map(str, known))}')
    return [table for table in tables if not numbers or table.number in numbers]


def largest_first(tables: Sequence[Table]) -> list[str]:
    """The configs by their MACs, so that no process is left alone with a large one in the end."""
    macs = {
        row.config: float(row.expected('macs')) * UNITS[table.macs_unit]
        for table in tables
        for row in table.rows
    }
    return sorted(macs, key=lambda config: -macs[config])


def flat(tables: Sequence[Table], compared: Mapping) -> Iterator[tuple[str, Comparison]]:
    """Every comparison with its place, such as 'Table 1, resnet101_in1k, macs'."""
    for table in tables:
        for config, values in compared[table.number].items():
            for name, found in values.items():
                yield f'Table {table.number}, {config}, {name}', found


def check(tables: Sequence[Table], compared: Mapping) -> None:
    """End with 1 if a value disagrees."""
    wrong = [
        f'{place}: {found.printed} is printed, {found.ours} counted'
        for place, found in flat(tables, compared)
        if found.verdict is Verdict.DISAGREES
    ]
    if wrong:
        sys.exit('\n'.join(f'error: {line}' for line in wrong))


def counted_by() -> str:
    """The line that says what the counts are."""
    return (
        f'Counted on the built models, {date.today()}: classifiers by ptflops {version("ptflops")} '
        '(224x224; CIFAR 32x32),\nFCN (512x1024, without the auxiliary head) and Faster R-CNN '
        f'(600x1000) by mmengine {versions()["mmengine"]}.'
    )


def write_json(
    path: Path, tables: Sequence[Table], counts: Mapping[str, Count], compared: Mapping
) -> None:
    """Write counts and comparisons."""
    content = {
        'date': str(date.today()),
        'versions': {**versions(), 'ptflops': version('ptflops')},
        'counts': {config: asdict(counts[config]) for config in sorted(counts)},
        'tables': [
            {
                'number': table.number,
                'title': table.title,
                'rows': [
                    {'config': config, **{name: as_json(found) for name, found in values.items()}}
                    for config, values in compared[table.number].items()
                ],
            }
            for table in tables
        ],
    }
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + '\n')


def as_json(found: Comparison) -> dict[str, str]:
    """A comparison in the JSON file."""
    return {**asdict(found), 'verdict': found.verdict.name.lower()}


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding='utf-8')


def around_marks(path: Path) -> tuple[str, str]:
    """What stands before and after the marks in a file."""
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as problem:
        raise UserError(f'{path} cannot be read: {problem.strerror or problem}') from problem
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f'{path} must hold the line {BEGIN} and after it {END}, each once')
    before, rest = text.split(BEGIN)
    return before, rest.split(END)[1]
