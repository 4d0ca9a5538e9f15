"""The machine that runs train on, and how busy its GPU is."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from tempfile import TemporaryFile

import torch


def machine(device: str) -> str:
    """A machine in a few words: GPU if it is used, cores, system, Python."""
    gpu = device != 'cpu' and torch.cuda.is_available()
    parts = [torch.cuda.get_device_name(0)] if gpu else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    system = f'{platform.system()} {platform.machine()}'
    return ', '.join([*parts, f'{cores} cores', system, f'Python {platform.python_version()}'])


@contextmanager
def watched_gpu(device: str) -> Iterator[dict]:
    """Ask the driver every second how busy the first GPU is, while something runs on it.

    The driver calls it busy while any kernel runs, however few of its processors that takes.

    Args:
        device (str): 'cpu' for no watching.

    Yields:
        dict: Gets 'gpu_busy_percent' in the end, the median from the first busy second on; stays
        empty where there is no GPU or no ``nvidia-smi``.
    """
    found: dict = {}
    program = shutil.which('nvidia-smi')
    if device == 'cpu' or program is None or not torch.cuda.is_available():
        yield found
        return
    visible = os.environ.get('CUDA_VISIBLE_DEVICES') or '0'
    command = [program, '--query-gpu=utilization.gpu', '--format=csv,noheader,nounits', '-l', '1']
    command += ['-i', visible.split(',')[0]]
    with TemporaryFile('w+') as output:
        watcher = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        try:
            yield found
        finally:
            watcher.terminate()
            watcher.wait()
        output.seek(0)
        busy = busy_percent(output.read())
        if busy is not None:
            found['gpu_busy_percent'] = busy


def busy_percent(output: str) -> float | None:
    """The median of the lines, each a percentage of the first GPU, without idle ones before."""
    values = [int(line) for line in output.split() if line.isdigit()]
    while values and values[0] == 0:
        values.pop(0)
    return median(values) if values else None
