"""tools/analysis_tools/benchmark.py: how fast networks are, beside their skip bounds."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import product
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..analysis.files import check_folder, read_json
from ..analysis.measurements import SPEED_FIELDS
from ..analysis.runtimes import EXPORTED, RUNTIMES, check_runtime
from ..analysis.speed_report import speed_report
from ..analysis.timing import BLOCK
from ..checkpoints import atomic_write
from ..errors import UserError
from ..ops import operator_problem
from .benchmark_setting import LAYOUTS, Benchmark, Job, load_networks
from .counting import config_folder
from .errors import one_line_errors
from .machine import machine, versions

DEFAULT = ('resnet50_in1k', 'resnet50-mod_in1k', 'resnet75-mod_in1k', 'resnet86-mod_in1k')
OPERATORS = {'cpu': 'C++', 'cuda': 'Triton'}
DTYPES = ('float32', 'float16', 'bfloat16')
VARIABLES = ('OMP_NUM_THREADS', 'OMP_WAIT_POLICY')
CONSOLE = Console(stderr=True)


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write as the command line says.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
    args = parse(argv)
    with one_line_errors(args.debug):
        if args.show:
            reports = ['\n'.join(speed_report(read_json(path, SPEED_FIELDS))) for path in args.show]
            print('\n\n'.join(reports))
            return
        check_folder(args.json)
        jobs = jobs_of(args)
        torch.set_num_threads(args.threads or torch.get_num_threads())
        content = dict(
            machine=args.machine or machine(jobs[0].device),
            date=str(date.today()),
            versions=runtime_versions(args.runtimes),
            switches=switches(jobs[0].device, args.runtimes),
            results=[],
            left_out=[],
        )
        interrupted = measure(args, jobs, content)
        if content['results']:
            print('\n'.join(speed_report(content)))
        if interrupted:
            print('interrupted: what is above is complete, the rest is not there', file=sys.stderr)
            sys.exit(130)
        if not content['results']:
            raise UserError(f'nothing could be measured: {content["left_out"][0]}')


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description='Time networks against each other in one run, beside their skip bounds (their '
        'MoD blocks replaced by identity). Every combination of the options is measured.'
    )
    add = parser.add_argument
    add(
        'configs',
        nargs='*',
        default=DEFAULT,
        metavar='CONFIG',
        help=f"names of the project's configs, or files; by default {' '.join(DEFAULT)}",
    )
    add('--what', nargs='+', choices=['inference', 'training'], default=['inference'])
    add('--device', choices=['auto', 'cpu', 'cuda'], default='auto')
    add('--runtimes', nargs='+', choices=list(RUNTIMES), default=['eager'], metavar='RUNTIME',
        help=f'{", ".join(RUNTIMES)}; by default eager')  # fmt: skip
    add('--batch-sizes', nargs='+', type=positive, default=[1], metavar='N', help='by default 1')
    add('--dtypes', nargs='+', choices=DTYPES, default=['float32'],
        help='by default float32; in training the others are mixed precision')  # fmt: skip
    add('--memory-formats', nargs='+', choices=list(LAYOUTS), default=['contiguous'])
    add('--size', nargs=2, type=positive, metavar=('HEIGHT', 'WIDTH'),
        help="of the images; by default each config's own")  # fmt: skip
    add('--no-bound', action='store_true', help='leave out the skip bounds')
    add('--rounds', type=positive, default=30, metavar='N',
        help='measurements of each network; by default 30')  # fmt: skip
    add('--block', type=float, default=BLOCK, metavar='SECONDS',
        help=f'what a measurement takes at least; by default {BLOCK}')  # fmt: skip
    add('--threads', type=positive, metavar='N', help="on the CPU; by default torch's choice")
    add('--json', type=Path, metavar='FILE', help='write the results, after each setting anew')
    add('--show', nargs='+', type=Path, metavar='FILE',
        help='print the tables of such files, and that is it')  # fmt: skip
    add('--machine', metavar='TEXT', help='how the results call this machine')
    add('--debug', action='store_true', help='show the traceback of an error as well')
    return parser.parse_args(argv)


def positive(text: str) -> int:
    """An integer above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """Every combination that was asked for; fails if one cannot be."""
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: torch sees no GPU; say --device cpu')
    device = args.device
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    jobs = [
        Job(device, runtime, batch_size, dtype, memory_format, what)
        for what, runtime, dtype, memory_format, batch_size in product(
            args.what, args.runtimes, args.dtypes, args.memory_formats, args.batch_sizes
        )
    ]
    for job in jobs:
        check_runtime(job.runtime, job.device, job.training, job.dtype)
    return jobs


def measure(args: argparse.Namespace, jobs: list[Job], content: dict) -> bool:
    """Fill in the results, and write them whenever some are new; also whether interrupted."""
    MMLogger.get_current_instance().setLevel('WARNING')
    try:
        with progress_bar() as progress:
            networks = load_networks(config_folder(), args.configs, args.size)
            benchmark = Benchmark(networks, not args.no_bound, args.rounds, args.block)
            for i, job in enumerate(jobs):
                task = progress.add_task(f'{i + 1}/{len(jobs)} {job}', total=benchmark.steps())
                results, left_out = benchmark.run(job, lambda: progress.advance(task))  # noqa: B023
                content['results'] += results
                content['left_out'] += left_out
                progress.remove_task(task)
                if args.json:
                    write_json(args.json, content)
    except KeyboardInterrupt:
        return True
    return False


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """On stderr: which setting it is, and how far."""
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Drawn seldom: a thread that draws takes time from what is measured.
    with Progress(*columns, console=CONSOLE, refresh_per_second=1) as progress:
        yield progress


def write_json(path: Path, content: dict) -> None:
    """Write the results, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n', 'utf-8')


def switches(device: str, runtimes: list[str]) -> dict[str, object]:
    """What else the times depend on; of a GPU, cuDNN's search for the fastest convolution is on."""
    found = {name: os.environ.get(name) for name in VARIABLES}
    if any(name.startswith('deploy') for name in runtimes):
        found['operator'] = operator_problem(device) or OPERATORS[device]
    if device == 'cuda':
        torch.backends.cudnn.benchmark = True
        found['cudnn_benchmark'] = True
        found['tf32_convolutions'] = torch.backends.cudnn.allow_tf32
        found['tf32_products'] = torch.backends.cuda.matmul.allow_tf32
    return found


def runtime_versions(runtimes: list[str]) -> dict[str, str]:
    """Of the packages on which the times depend."""
    found = versions()
    for name in dict.fromkeys(EXPORTED[name] for name in runtimes if name in EXPORTED):
        found[name] = sys.modules[name].__version__
    return found
