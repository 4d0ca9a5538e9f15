"""Time networks on this machine: python tools/analysis_tools/benchmark.py [CONFIG ...].

By default it times ResNet-50, ResNet-50-MoD, ResNet-75-MoD and ResNet-86-MoD in turns. Each MoD
network is compared with its skip bound: the same network with identity in place of its MoD blocks.

    benchmark.py --batch-sizes 1 8 --runtimes eager deploy compile          # every combination
    benchmark.py fcn_r50_cityscapes fcn_r50-mod_cityscapes --what training  # other configs
    benchmark.py --json FILE                                                # write the results
    benchmark.py --show FILE                                                # print them again

docs/performance.md explains the columns.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path

# Unlike the other tools, this one does not set OMP_WAIT_POLICY: it times the default behaviour.

try:
    import torch
    from benchmark_setting import LAYOUTS, Benchmark, load_networks
    from mmengine.logging import MMLogger
    from rich.console import Console
    from rich.progress import Progress

    from mmcnnmod.analysis.files import read_json, write_json
    from mmcnnmod.analysis.measurements import SPEED_FIELDS, Setting
    from mmcnnmod.analysis.runtimes import EXPORTED, RUNTIMES, check_runtime
    from mmcnnmod.analysis.speed import speed_report
    from mmcnnmod.analysis.timing import BLOCK
    from mmcnnmod.cli.errors import one_line_errors
    from mmcnnmod.cli.machine import machine, versions
    from mmcnnmod.errors import UserError
    from mmcnnmod.files import check_out
    from mmcnnmod.ops import operator_problem
except ImportError as problem:
    sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')

DEFAULT = ('resnet50_in1k', 'resnet50-mod_in1k', 'resnet75-mod_in1k', 'resnet86-mod_in1k')
OPERATORS = {'cpu': 'C++', 'cuda': 'Triton'}
DTYPES = ('float32', 'float16', 'bfloat16')
VARIABLES = ('OMP_NUM_THREADS', 'OMP_WAIT_POLICY')


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write.

    Args:
        argv (list[str], optional): Command-line options. Defaults to None, those of the process.
    """
    args = parse(argv)
    with one_line_errors(args.debug):
        if args.show:
            reports = ['\n'.join(speed_report(read_json(path, SPEED_FIELDS))) for path in args.show]
            print('\n\n'.join(reports))
            return
        check_out(args.json)
        settings = settings_of(args)
        torch.set_num_threads(args.threads or torch.get_num_threads())
        packages = [EXPORTED[name] for name in args.runtimes if name in EXPORTED]
        content = dict(
            machine=args.machine or machine(settings[0].device),
            date=str(date.today()),
            versions={**versions(), **{name: sys.modules[name].__version__ for name in packages}},
            switches=switches(settings[0].device, args.runtimes),
            results=[],
            left_out=[],
        )
        interrupted = False
        try:
            measure(args, settings, content)
        except KeyboardInterrupt:
            interrupted = True
        if content['results']:
            print('\n'.join(speed_report(content)))
        if interrupted:
            print('interrupted: results above are complete, the rest is missing', file=sys.stderr)
            sys.exit(130)
        if not content['results']:
            raise UserError(f'nothing could be measured: {content["left_out"][0]}')


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Time networks against each other in one run, beside their skip bounds (their '
        'MoD blocks replaced by identity). Every combination of the options is measured.'
    )
    add = parser.add_argument
    add('configs', nargs='*', default=DEFAULT, metavar='CONFIG',
        help=f"names of the project's configs, or files; by default {' '.join(DEFAULT)}"
        )  # fmt: skip
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
        help='only print the tables of such files')  # fmt: skip
    add('--machine', metavar='TEXT', help='how the results call this machine')
    add('--debug', action='store_true', help='show the traceback of an error as well')
    return parser.parse_args(argv)


def positive(text: str) -> int:
    """An integer above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def settings_of(args: argparse.Namespace) -> list[Setting]:
    """All combinations of the options; fails if one is impossible."""
    gpu = torch.cuda.is_available()
    if args.device == 'cuda' and not gpu:
        raise UserError('--device cuda: torch sees no GPU; say --device cpu')
    device = args.device if args.device != 'auto' else 'cuda' if gpu else 'cpu'
    settings = [
        Setting(device, runtime, batch_size, dtype, memory_format, what)
        for what, runtime, dtype, memory_format, batch_size in product(
            args.what, args.runtimes, args.dtypes, args.memory_formats, args.batch_sizes
        )
    ]
    for setting in settings:
        check_runtime(setting)
    return settings


def measure(args: argparse.Namespace, settings: list[Setting], content: dict) -> None:
    """Add the results to ``content``, and write the file after each setting."""
    MMLogger.get_current_instance().setLevel('WARNING')
    # A low refresh rate, because drawing takes time from the measurement.
    with Progress(console=Console(stderr=True), refresh_per_second=1) as progress:
        benchmark = Benchmark(
            load_networks(args.configs, args.size), not args.no_bound, args.rounds, args.block
        )
        for i, setting in enumerate(settings):
            name = f'{i + 1}/{len(settings)} {setting.what}, {setting}'
            task = progress.add_task(name, total=benchmark.steps)
            results, left_out = benchmark.run(setting, partial(progress.advance, task))
            content['results'] += results
            content['left_out'] += left_out
            progress.remove_task(task)
            if args.json:
                write_json(args.json, content)


def switches(device: str, runtimes: list[str]) -> dict[str, object]:
    """Other settings that affect the times; on a GPU also turns on cuDNN's benchmark mode."""
    found = {name: os.environ.get(name) for name in VARIABLES}
    if any(name.startswith('deploy') for name in runtimes):
        found['operator'] = operator_problem(device) or OPERATORS[device]
    if device == 'cuda':
        torch.backends.cudnn.benchmark = True
        found['cudnn_benchmark'] = True
        found['tf32_convolutions'] = torch.backends.cudnn.allow_tf32
        found['tf32_products'] = torch.backends.cuda.matmul.allow_tf32
    return found


if __name__ == '__main__':
    main()
