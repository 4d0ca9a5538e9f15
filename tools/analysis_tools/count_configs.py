"""Count the parameters and MACs of several configs, for paper_tables.py and plot_tradeoff.py."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import track

from mmcnnmod.analysis.counting import Count, count_config
from mmcnnmod.cli.config import config_folder
from mmcnnmod.cli.errors import building_from
from mmcnnmod.errors import UserError

CONSOLE = Console(stderr=True)
MAX_JOBS = 4  # an FCN at 512x1024 takes 1.5 GB


def add_counting(parser: argparse.ArgumentParser) -> None:
    """Add the options of programs that count."""
    add = parser.add_argument
    add('--configs', type=Path, metavar='DIR', default=config_folder(),
        help='where the configs are; by default those of the project')  # fmt: skip
    add('--jobs', type=int, metavar='N', help='processes; by default one per CPU, at most 4')
    add('--debug', action='store_true', help='show the traceback of an error as well')


def count_all(folder: Path, configs: Sequence[str], jobs: int | None = None) -> dict[str, Count]:
    """Count networks in a few processes, and show the progress on stderr.

    The processes are forks, which can hang if torch has used several threads before; ``jobs=1``
    counts in this process.

    Args:
        folder (Path): The folder of the configs.
        configs (Sequence[str]): Their names, without folder and suffix. With the largest network
            first it takes the least time.
        jobs (int, optional): Number of processes. Defaults to None: one per CPU, at most 4.

    Returns:
        dict[str, Count]: By config.

    Raises:
        UserError: If a config does not exist or its network cannot be built.
    """
    paths = [folder / f'{config}.py' for config in configs]
    for path in paths:
        if not path.is_file():
            raise UserError(f'config {path} does not exist; choose its folder with --configs')
    cpus = os.cpu_count() or 1
    jobs = min(cpus, MAX_JOBS) if jobs is None else jobs
    if jobs <= 1:
        return {path.stem: count_one(path) for path in track(paths, 'counting', console=CONSOLE)}
    context = multiprocessing.get_context('fork')
    try:
        with ProcessPoolExecutor(jobs, context, start_process, (max(1, cpus // jobs),)) as pool:
            # Forks before the thread that draws the progress starts; a fork should not copy it.
            counts = pool.map(count_one, paths)
            counts = track(counts, 'counting', len(paths), console=CONSOLE)
            return dict(zip(configs, counts, strict=True))
    except KeyboardInterrupt:
        sys.exit('interrupted: nothing was written')


def start_process(threads: int) -> None:
    """Set up a counting process: its share of the CPUs, and no traceback on Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(threads)


def count_one(path: Path) -> Count:
    """Count a config; errors name it."""
    # mmengine logs that ConvNeXt's preprocessor has no mean and no standard deviation.
    MMLogger.get_current_instance().setLevel('WARNING')
    with building_from(f'config {path}'):
        return count_config(path)
