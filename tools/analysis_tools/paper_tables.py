"""Compare the paper's tables with our models: python tools/analysis_tools/paper_tables.py.

Prints Tables 1, 2, 3, 4, 7 and 9 as Markdown: the parameters and MACs of the built models beside
the paper's, with a mark for each value that agrees to the printed digit.

    paper_tables.py --check           # exit code 1 if a value disagrees (misprints are known)
    paper_tables.py --json FILE       # write counts and comparisons
    paper_tables.py --speed FILE      # a benchmark's times beside the paper's
    paper_tables.py --write FILE      # update the model table between the marks in docs/models.md
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path

# Read when torch is loaded, see tools/train.py.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

try:
    from count_configs import add_counting, count_all

    from mmcnnmod.analysis.files import write_json
    from mmcnnmod.analysis.markdown import model_table, paper_table, speed_table, summary
    from mmcnnmod.analysis.measurements import read_speed
    from mmcnnmod.analysis.paper import UNITS, Table, Verdict, compare, load_tables, read_numbers
    from mmcnnmod.cli.errors import one_line_errors
    from mmcnnmod.cli.machine import versions
    from mmcnnmod.errors import UserError
    from mmcnnmod.files import atomic_write, check_out
except ImportError as problem:
    sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')

BEGIN, END = '<!-- models: written by tools/analysis_tools/paper_tables.py -->', '<!-- /models -->'


def main(argv: list[str] | None = None) -> None:
    """Count, compare, print and write.

    Args:
        argv (list[str], optional): Command-line options. Defaults to None, those of the process.
    """
    args = parse(argv)
    with one_line_errors(args.debug):
        check_out(args.json)
        numbers, tables = read_numbers(), choose_tables(args.tables)
        speed = read_speed(args.speed) if args.speed else None
        frame, others = None, []
        if args.write:
            frame = split_at_marks(args.write)
            others = [x for x in numbers['without_numbers'] if (args.configs / f'{x}.py').is_file()]
        counts = count_all(args.configs, [*largest_first(tables), *others], args.jobs)
        compared = {
            table.number: {row.config: compare(table, row, counts) for row in table.rows}
            for table in tables
        }

        print(f'{counted_by()}\n')
        for table in tables:
            lines = paper_table(table, compared[table.number])
            if speed:
                lines += speed_table(table, speed, numbers['speed_measured_on'])
            print('\n'.join(lines) + '\n')
        comparisons = {
            f'Table {number}, {config}, {name}': found
            for number, rows in compared.items()
            for config, values in rows.items()
            for name, found in values.items()
        }
        print(summary(list(comparisons.values())))
        if args.json:
            write_json(args.json, content_of(tables, counts, compared))
        if frame:
            lines = [BEGIN, counted_by(), '', *model_table(tables, counts, others), END]
            with atomic_write(args.write) as partial:
                partial.write_text('\n'.join(lines).join(frame), encoding='utf-8')
        wrong = [
            f'error: {name}: {found.printed} is printed, {found.ours} counted'
            for name, found in comparisons.items()
            if found.verdict is Verdict.DISAGREES
        ]
        if args.check and wrong:
            sys.exit('\n'.join(wrong))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Print the paper's tables with the parameters and MACs of our networks, "
        'counted on the built models, beside the printed ones.'
    )
    add = parser.add_argument
    add('--tables', type=int, nargs='+', metavar='N', help='only these; by default all')
    add('--json', type=Path, metavar='FILE', help='write counts and comparisons')
    add('--check', action='store_true',
        help="exit with 1 if a value disagrees that is not on the short list of the paper's "
        'misprints (in mmcnnmod/analysis/paper_tables.json)')  # fmt: skip
    add('--speed', type=Path, metavar='FILE',
        help="show the times of this benchmark's JSON beside the paper's")  # fmt: skip
    add('--write', type=Path, metavar='FILE',
        help='put the model table between the marks in this file')  # fmt: skip
    add_counting(parser)
    args = parser.parse_args(argv)
    if args.write and args.tables:
        parser.error('--write needs all tables: leave out --tables')
    return args


def choose_tables(numbers: Sequence[int] | None) -> list[Table]:
    """The tables with these numbers, by default all."""
    tables = {table.number: table for table in load_tables()}
    for number in numbers or []:
        if number not in tables:
            raise UserError(f'--tables {number}: choose from {", ".join(map(str, tables))}')
    return [table for number, table in tables.items() if not numbers or number in numbers]


def largest_first(tables: Sequence[Table]) -> list[str]:
    """The configs sorted by MACs, so that the last process does not end with a large network."""
    macs = {
        row.config: float(row.expected('macs')) * UNITS[table.macs_unit]
        for table in tables
        for row in table.rows
    }
    return sorted(macs, key=macs.get, reverse=True)


def counted_by() -> str:
    """How the models were counted."""
    return (
        f'Counted on the built models, {date.today()}: classifiers by ptflops {version("ptflops")} '
        '(224x224; CIFAR 32x32),\nFCN (512x1024, without the auxiliary head) and Faster R-CNN '
        f'(600x1000) by mmengine {versions()["mmengine"]}.'
    )


def content_of(tables: Sequence[Table], counts: Mapping, compared: Mapping) -> dict:
    """The content of the JSON file."""

    def row(config: str, values: Mapping) -> dict:
        numbers = {
            name: {**asdict(found), 'verdict': found.verdict.name.lower()}
            for name, found in values.items()
        }
        return {'config': config, **numbers}

    return {
        'date': str(date.today()),
        'versions': {**versions(), 'ptflops': version('ptflops')},
        'counts': {config: asdict(counts[config]) for config in sorted(counts)},
        'tables': [
            dict(number=table.number, title=table.title,
                 rows=[row(*item) for item in compared[table.number].items()])
            for table in tables
        ],
    }  # fmt: skip


def split_at_marks(path: Path) -> tuple[str, str]:
    """The text before the first mark of a file, and after the second."""
    try:
        before, _, rest = path.read_text(encoding='utf-8').partition(BEGIN)
    except OSError as problem:
        raise UserError(f'{path} cannot be read: {problem.strerror or problem}') from problem
    _, end, after = rest.partition(END)
    if not end or BEGIN in rest or END in before + after:
        raise UserError(f'{path} must contain the line {BEGIN} once, and after it {END} once')
    return before, after


if __name__ == '__main__':
    main()
