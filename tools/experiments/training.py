"""Trains and tests one run of a plan in subprocesses; resumes interrupted runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from numbers import Real
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from time import monotonic

import torch
from mmengine.config import Config
from plan import Run
from results import locked
from rich.console import Console
from settings import freeze
from subprocess_runner import RunFailed, run_program
from work_dir import (
    choose_checkpoint,
    evaluated_checkpoints,
    is_trained,
    last_step,
    read_work_dir,
)

from mmcnnmod.analysis.counting import count_alike
from mmcnnmod.cli.errors import building_from
from mmcnnmod.cli.machine import machine, versions
from mmcnnmod.cli.resuming import checkpoints, newest_readable
from mmcnnmod.errors import UserError

ETA = re.compile(r'\(train\).* eta: ((?:\d+ days?, )?\d+:\d\d:\d\d)')


def train_run(
    run: Run, cfg: Config, folder: Path, source: Path | None, title: str, args: Namespace,
    deadline: float | None,
) -> dict:  # fmt: skip
    """Finish a run: its training, and its test if the plan has one.

    Args:
        run (Run): The run.
        cfg (Config): The config of its arm.
        folder (Path): Its work dir.
        source (Path, optional): The work dir of the run whose checkpoint it needs.
        title (str): The title to print.
        args (Namespace): The program's options.
        deadline (float, optional): When to stop the run, in seconds of ``time.monotonic``.

    Returns:
        dict: The record for :class:`results.Results`, without the hash of the settings.

    Raises:
        RunFailed: If the run failed.
        RunTimeout: If it was stopped at the deadline.
        Busy: If another process trains it.
    """
    start_time = monotonic()
    options = ['--device', args.device, *['--debug'] * args.debug]
    options += ['--trust-checkpoint'] * args.trust_checkpoint
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder) as lock, watched_gpu(args.device) as busy:

            def start(program: str, *words) -> None:
                left = None if deadline is None else max(0.0, deadline - monotonic())
                with logged(f'{title}: {program}', folder / f'{program}.log') as show:
                    run_program(program, args.gpus, *words, *options, show=show, seconds=left,
                                keep_open=[lock])  # fmt: skip

            config = freeze(cfg, run, source, folder)
            newest = newest_readable(evaluated_checkpoints(folder, run.plan, cfg))
            if not is_trained(folder, newest, cfg):
                resume = ['--resume', newest] if newest else []
                start('train', config, '--work-dir', folder, *resume)
            record = read_work_dir(folder, run.plan, last_step(cfg))
            if run.plan.test:
                checkpoint, out = choose_checkpoint(folder, cfg), folder / 'test' / 'metrics.json'
                out.unlink(missing_ok=True)
                start('test', config, folder / checkpoint, '--work-dir', out.parent, '--out', out,
                      '--out-item', 'metrics', *['--tta'] * args.tta)  # fmt: skip
                record |= {'checkpoint': checkpoint, **read_scores(out, run.plan.metric)}
    except (UserError, OSError) as problem:
        raise RunFailed(str(problem)) from problem
    if not run.plan.test:
        for old in checkpoints(folder)[1:]:
            old.unlink()
    seconds = None if newest else round(monotonic() - start_time, 1)
    return dict(
        arm=run.arm.name, seed=run.seed, **record, seconds=seconds, **busy,
        machine=machine(args.device), versions=versions(), date=date.today().isoformat(),
    )  # fmt: skip


def read_scores(path: Path, metric: str) -> dict:
    """The score and all numbers in the output file of a test."""
    metrics = json.loads(path.read_text())
    metrics = {name: value for name, value in metrics.items() if isinstance(value, Real)}
    if metric not in metrics:
        names = ', '.join(metrics) or 'no numbers'
        raise RunFailed(f'the test returns no {metric}, but {names}; choose one with --metric')
    return dict(score=metrics[metric], metrics=metrics)


@contextmanager
def logged(title: str, path: Path) -> Iterator[Callable[[str], None]]:
    """Yields a function that logs a line of a program's output and shows the remaining time."""
    console = Console(highlight=False)
    console.print(title, soft_wrap=True)
    with path.open('a') as log, console.status('starts') as status:

        def show(line: str) -> None:
            log.write(line)
            log.flush()
            if match := ETA.search(line):
                status.update(f'{match[1]} left')

        yield show


def cost_of(run: Run, cfg: Config) -> dict:
    """The parameters and MACs of a run's network. Raises RunFailed if it cannot be built."""
    try:
        with building_from(f'config {run.arm.config}'):
            count = count_alike(cfg, run.plan.image_size)
    except UserError as problem:
        raise RunFailed(str(problem)) from problem
    return dict(params=count.params, macs=count.macs)


@contextmanager
def watched_gpu(device: str) -> Iterator[dict]:
    """Measure the utilisation of the first GPU every second.

    The driver counts the GPU as busy while any kernel runs, even if it uses few processors. After
    the context the yielded dict contains 'gpu_busy_percent'. It stays empty without a GPU or
    ``nvidia-smi``.
    """
    result: dict = {}
    program = shutil.which('nvidia-smi')
    if device == 'cpu' or program is None or not torch.cuda.is_available():
        yield result
        return
    first = (os.environ.get('CUDA_VISIBLE_DEVICES') or '0').split(',')[0]
    query = ['--query-gpu=utilization.gpu', '--format=csv,noheader,nounits', '-l', '1', '-i', first]
    with TemporaryFile('w+') as output:
        watcher = subprocess.Popen([program, *query], stdout=output, stderr=subprocess.DEVNULL)
        try:
            yield result
        finally:
            watcher.terminate()
            watcher.wait()
        output.seek(0)
        busy = busy_percent(output.read())
        if busy is not None:
            result['gpu_busy_percent'] = busy


def busy_percent(output: str) -> float | None:
    """The median of the percentages in nvidia-smi's output, without zeros at the start."""
    values = [int(line) for line in output.split() if line.isdigit()]
    while values and values[0] == 0:
        values.pop(0)
    return median(values) if values else None
