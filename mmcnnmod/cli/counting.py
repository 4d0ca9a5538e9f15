"""Counting several configs at once, for the tools that compare networks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import mmcnnmod

from ..analysis.counting import Count, count_config
from ..errors import UserError
from .errors import building_from

PACKAGE = Path(mmcnnmod.__file__).parent
CONSOLE = Console(stderr=True)
MOST_JOBS = 4  # an FCN at 512x1024 takes 1.5 GB


def config_folder() -> Path:
    """The project's configs: beside the package in a checkout, inside it when installed."""
    inside = PACKAGE / '.mim' / 'configs'
    return inside if inside.is_dir() else PACKAGE.parent / 'configs'


def count_all(folder: Path, configs: Sequence[str], jobs: int | None = None) -> dict[str, Count]:
    """Count networks, and show on stderr how far it is.

    Args:
        folder (Path): Where the configs are.
        configs (Sequence[str]): Their names, without folder and suffix; with the largest network
            first it is done soonest.
        jobs (int, optional): Processes, as :func:`in_processes` says. Defaults to None.

    Returns:
        dict[str, Count]: By config.

    Raises:
        UserError: If a config is not there or does not build.
    """
    paths = [folder / f'{config}.py' for config in configs]
    for path in paths:
        if not path.is_file():
            raise UserError(f'config {path} is not there; say with --configs where the configs are')
    columns = (
        TextColumn('counting'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('{task.description}'),
    )
    counts = {}
    # The processes come first: a fork should not copy the thread that draws the progress.
    with in_processes(paths, jobs) as counted, Progress(*columns, console=CONSOLE) as progress:
        task = progress.add_task('', total=len(paths))
        for path, count in counted:
            counts[path.stem] = count
            progress.update(task, advance=1, description=path.stem)
        progress.update(task, description='')
    return counts


@contextmanager
def in_processes(paths: Sequence[Path], jobs: int | None) -> Iterator[Iterator[tuple[Path, Count]]]:
    """Count configs in a few processes.

    They are forks, which may hang where torch has computed with several threads before; ``jobs=1``
    counts in this process.

    Args:
        paths (Sequence[Path]): The config files.
        jobs (int, optional): How many processes. None: one per CPU, at most 4.

    Yields:
        Iterator[tuple[Path, Count]]: Each with its count, as they get ready.
    """
    cpus = os.cpu_count() or 1
    jobs = min(cpus, MOST_JOBS) if jobs is None else jobs
    if jobs <= 1:
        yield ((path, count_one(path)) for path in paths)
        return
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context('fork'), start_process, (max(1, cpus // jobs),)
    )
    try:
        futures = {pool.submit(count_one, path): path for path in paths}
        yield ((futures[future], future.result()) for future in as_completed(futures))
    except KeyboardInterrupt:
        sys.exit('interrupted: nothing was written')
    finally:
        pool.shutdown(cancel_futures=True)


def start_process(threads: int) -> None:
    """What a counting process does first: take its share of the CPUs, and end silently if told."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(threads)


def count_one(path: Path) -> Count:
    """Count a config; if it is wrong, the error names it."""
    MMLogger.get_current_instance().setLevel('WARNING')  # ConvNeXt's preprocessor has news
    with building_from(f'config {path}'):
        return count_config(path)
