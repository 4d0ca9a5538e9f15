"""`make gpu`: test and measure MoD networks on a GPU within a time budget.

    python tools/misc/gpu.py --budget 600 --data /data/cifar10

It needs the packages of the README's version table, pytest and a GPU. It downloads nothing. Results
are written only to OUT. The most informative steps come first. Every step has a time limit and
writes its results immediately, so that an interruption loses at most one step:

1. environment.json; tests.txt: the tests marked `gpu`; trainings.txt: two iterations of each task.
2. speed.json, training.json, models.json, batches.json (8 and 256), compile.json: the benchmark,
   see docs/performance.md.
3. The runs of configs/experiments/gpu_short.yml on CIFAR-10, in the folders of --data.

After an interruption, the same command continues with step 3. The tables are in OUT/tables.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
EXPERIMENTS = ROOT / 'configs' / 'experiments'
SPEED = ('speed', 'training', 'models', 'batches', 'compile')
TESTS = ('tests.txt', 'trainings.txt')
# The number of parallel trainings on small images; a single one does not fill the GPU.
SIDE_BY_SIDE = 3
# The seconds that a program has to end by itself.
GRACE = 20
# A placeholder in a command for the minutes that remain when it starts.
MINUTES_LEFT = object()


@dataclass(frozen=True)
class Step:
    """Programs that run in parallel, for at most a share of the budget."""

    name: str
    share: float
    commands: list[list]


def main() -> None:
    """Run the steps; exit code 1 if a test or a step failed."""
    args = parse()
    if args.read_images:
        return read_images(args.read_images)
    os.environ['PYTHONPATH'] = os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    )
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    write_environment(args)
    began, failed = time.monotonic(), []
    for step in steps(args):
        if args.steps and step.name not in args.steps:
            continue
        left = args.budget - (time.monotonic() - began)
        if left <= 0:
            print(f'{step.name}: no time left', flush=True)
            continue
        if not run(step, min(left, step.share * args.budget), args):
            failed.append(step.name)
    write_report(args)
    if failed:
        sys.exit(f'error: {", ".join(failed)} failed; see {args.out}/tests.txt and log.txt')


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Test and measure MoD networks on a GPU, the most informative first.'
    )
    add = parser.add_argument
    add('--budget', type=float, default=600, metavar='SECONDS', help='total time; by default 600')
    add('--out', type=Path, default=ROOT / 'docs' / 'results' / 'gpu', metavar='DIR',
        help='folder for the results; by default docs/results/gpu')  # fmt: skip
    add('--data', type=Path, metavar='DIR',
        help='CIFAR-10 as {train,test}/<class>/*.jpg; without it nothing is trained')  # fmt: skip
    add('--steps', nargs='+', choices=['tests', *SPEED, 'cifar10'], help='only these')
    add('--work', type=Path, default=Path(tempfile.gettempdir()) / 'mmcnnmod-gpu', metavar='DIR',
        help='folder for checkpoints and generated data; by default temporary')  # fmt: skip
    add('--read-images', type=Path, help=argparse.SUPPRESS)
    add('--dry-run', action='store_true', help='the same on a CPU, with tiny sizes')
    args = parser.parse_args()
    args.out, args.work = args.out.resolve(), args.work.resolve()
    if not args.dry_run and not args.read_images:
        import torch

        if not torch.cuda.is_available():
            parser.error('torch finds no GPU; --dry-run runs the program on a CPU')
    if args.data is not None:
        args.data = args.data.resolve()
        if not (args.data / 'train').is_dir():
            parser.error(f'--data: the folder {args.data}/train does not exist')
    return args


def steps(args: argparse.Namespace) -> list[Step]:
    """All steps in order, with the largest share of the budget that each may use."""
    first = [pytest(args, 'test_mod_block.py', 'test_networks.py', processes=6)]
    first.append(pytest(args, 'test_training.py', processes=3))
    if args.data:
        first.append([sys.executable, __file__, '--read-images', args.data])
    networks = [f'resnet{name}_in1k' for name in ('50', '50-mod', '75-mod', '86-mod')]
    models = [f'{task}_{name}{rest}' for task, rest in
              (('fcn', '_cityscapes'), ('faster-rcnn', '_fpn_voc0712'))
              for name in ('r50', 'r75-mod')]  # fmt: skip
    graphs, both = ['deploy-cuda-graph', 'cuda-graph'], ['--dtypes', 'bfloat16', 'float32']
    runtimes = [*graphs, 'eager']
    found = [
        Step('tests', 0.13, first),
        Step('speed', 0.15, [benchmark(
            args, 'speed', networks, '--runtimes', *runtimes, '--batch-sizes', 1, 64, *both)]),
        Step('training', 0.05, [benchmark(
            args, 'training', networks[:3], '--what', 'training', '--batch-sizes', 64, *both)]),
        Step('models', 0.05, [benchmark(
            args, 'models', models, '--runtimes', 'deploy', 'eager', *both)]),
        Step('batches', 0.07, [benchmark(
            args, 'batches', networks, '--runtimes', *graphs, '--batch-sizes', 8, 256, *both)]),
        Step('compile', 0.05, [benchmark(
            args, 'compile', [networks[0], networks[2]], '--runtimes', 'deploy-compile',
            '--batch-sizes', 1, 64, '--dtypes', 'bfloat16')]),
    ]  # fmt: skip
    return [*found, *training(args)]


def pytest(args: argparse.Namespace, *files: str, processes: int) -> list:
    """The command of tests, in several processes if pytest-xdist is installed."""
    tests = [ROOT / 'tests' / 'test_gpu' / name for name in files]
    command = [sys.executable, '-m', 'pytest', '-v', '--rootdir', ROOT, *tests,
               '-p', 'no:cacheprovider', '-p', 'no:warnings']  # fmt: skip
    if args.dry_run:
        return [*command, '--device', 'cpu', '-k', 'plain or mmpretrain']
    return [*command, *(['-n', processes] if importlib.util.find_spec('xdist') else [])]


def benchmark(args: argparse.Namespace, name: str, configs: list[str], *options) -> list:
    """The command of a benchmark."""
    command = [sys.executable, TOOLS / 'analysis_tools' / 'benchmark.py']
    if args.dry_run:
        what = ['--what', 'training'] if name == 'training' else ['--runtimes', 'deploy']
        tiny = ['--device', 'cpu', '--size', 64, 64, '--rounds', 1, '--block', 0.001]
        return [*command, *configs[:1], *what, *tiny, '--json', args.out / f'{name}.json']
    quick = ['--block', 0.03, '--rounds', 15, '--memory-formats', 'channels_last']
    rest = ['--device', 'cuda', '--json', args.out / f'{name}.json']
    return [*command, *configs, *options, *quick, *rest]


def training(args: argparse.Namespace) -> list[Step]:
    """The step that trains the plan, with several runs at the same time."""
    plan, data, more = EXPERIMENTS / 'gpu_short.yml', args.data, []
    if args.dry_run:
        plan, data = EXPERIMENTS / 'smoke.yml', args.work / 'drawn'
        more = ['--device', 'cpu', '--seeds', 0]
        draw = [TOOLS / 'dataset_tools' / 'generate_data.py', 'imagenet', data, '--size', '64x32',
                '--classes', 4, '--train', 64, '--val', 16]  # fmt: skip
        subprocess.run([sys.executable, *map(str, draw)], check=True)
    if data is None:
        print('cifar10: skipped, because --data is not set', flush=True)
        return []
    command = [sys.executable, TOOLS / 'experiments' / 'run.py', plan, '--data-root', data,
               '--results', args.out / 'runs', '--work-dir', args.work / 'runs', '--time-budget',
               MINUTES_LEFT, *more]  # fmt: skip
    return [Step('cifar10', 1.0, [command] * SIDE_BY_SIDE)]


def read_images(data: Path) -> None:
    """Fill the image cache that all trainings use."""
    from mmengine.config import Config
    from mmengine.registry import DATASETS, DefaultScope

    import mmcnnmod  # noqa: F401
    from mmcnnmod.cli.config import set_data_root

    cfg = Config.fromfile(EXPERIMENTS / 'resnet_cifar10_short.py')
    set_data_root(cfg, str(data))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for loader in (cfg.train_dataloader, cfg.test_dataloader):
            DATASETS.build(loader.dataset)


def run(step: Step, seconds: float, args: argparse.Namespace) -> bool:
    """Run a step's programs in parallel and stop them when the time is over.

    Returns:
        bool: Whether no program failed; stopped programs have not failed.
    """
    began = time.monotonic()
    print(f'{step.name}: at most {seconds:.0f} s', flush=True)
    minutes = f'{max(seconds - GRACE, 1) / 60:.2f}'
    running = []
    for i, command in enumerate(step.commands):
        own = step.name == 'tests' and i < len(TESTS)
        with (args.out / (TESTS[i] if own else 'log.txt')).open('w' if own else 'a') as log:
            words = [minutes if word is MINUTES_LEFT else str(word) for word in command]
            folder = ROOT if own else args.work
            options = dict(cwd=folder, stdout=log, stderr=subprocess.STDOUT)
            running.append(subprocess.Popen(words, start_new_session=True, **options))
    codes = [wait_or_stop(process, seconds - (time.monotonic() - began)) for process in running]
    took = time.monotonic() - began
    print(f'{step.name}: {took:.0f} s{"" if None not in codes else ", cut"}', flush=True)
    return all(code in (0, None) for code in codes)


def wait_or_stop(process: subprocess.Popen, seconds: float) -> int | None:
    """Wait for a process; returns its exit code, or None if it and its children were stopped."""
    try:
        return process.wait(max(seconds, 0))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)  # pytest then prints its results so far
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return None


def write_environment(args: argparse.Namespace) -> None:
    """Write environment.json: machine and versions."""
    sys.path.insert(0, str(ROOT))
    from mmcnnmod.cli.machine import machine, versions

    content = dict(
        machine=machine('cpu' if args.dry_run else 'auto'),
        date=date.today().isoformat(),
        versions=versions(),
    )
    (args.out / 'environment.json').write_text(json.dumps(content, indent=1) + '\n')


def write_report(args: argparse.Namespace) -> None:
    """Write tables.md: the results of the tests and the tables of speed."""
    from mmcnnmod.analysis.speed import speed_report

    content = json.loads((args.out / 'environment.json').read_text())
    versions = ', '.join(f'{name} {number}' for name, number in content['versions'].items())
    lines = ['# On a GPU, measured', '', 'Written by `make gpu` (tools/misc/gpu.py).', '']
    lines += [f'{content["machine"]}; {versions}; {content["date"]}.']
    for name in TESTS:
        if (args.out / name).exists():
            text = (args.out / name).read_text().strip()
            last = text.rpartition('\n')[2].strip('= ')
            if ' in ' not in last:
                last = f'cut after {text.count("PASSED")} passed and {text.count("FAILED")} failed'
            lines += ['', f'[{name}]({name}): {last}.']
    for name in SPEED:
        path = args.out / f'{name}.json'
        if path.exists():
            lines += ['', f'## {name.capitalize()}', '']
            lines += speed_report(json.loads(path.read_text()))
    (args.out / 'tables.md').write_text('\n'.join(lines) + '\n')


if __name__ == '__main__':
    main()
