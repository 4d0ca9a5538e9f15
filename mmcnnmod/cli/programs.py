"""Run tools/train.py and tools/test.py in separate processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from threading import Timer

# The seconds that a program has to end by itself.
GRACE = 20.0


class RunFailed(Exception):
    """Training or testing failed; other runs continue."""


class OutOfTime(Exception):
    """A program was stopped because its time was over."""


def end_child_when_terminated() -> None:
    """Let SIGTERM end this program and the one that it started, like an interrupt."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def print_line(line: str) -> None:
    """Print a line of a program's output without buffering."""
    print(line, end='', flush=True)


def run_program(
    name: str,
    gpus: int | None,
    *arguments,
    show: Callable[[str], None] = print_line,
    seconds: float | None = None,
    keep_open: Sequence[int] = (),
) -> None:
    """Run tools/train.py or tools/test.py in a separate process, and show its output.

    Args:
        name (str): 'train' or 'test'.
        gpus (int, optional): The number of GPUs; None for one process without a launcher.
        *arguments: Arguments of the program.
        show (Callable[[str], None]): Called with every line of the output. Defaults to printing.
        seconds (float, optional): Stop it after this time. Defaults to None, no limit.
        keep_open (Sequence[int]): File descriptors that it inherits, such as a lock's.

    Raises:
        RunFailed: If it failed, with its last line.
        OutOfTime: If it was stopped.
    """
    command = ['-m', f'mmcnnmod.cli.{name}', *map(str, arguments)]
    if gpus:
        launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
        command = [*launcher, *command, '--launcher', 'pytorch']
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        pass_fds=keep_open,
    )
    began, limit = time.monotonic(), seconds
    clocks = []
    if limit is not None:
        clocks = [Timer(limit, process.terminate), Timer(limit + GRACE, process.kill)]
    with process:
        try:
            for clock in clocks:
                clock.start()
            reason = last_words(process.stdout, show)
        except BaseException:
            process.terminate()
            raise
        finally:
            for clock in clocks:
                clock.cancel()
    if limit is not None and time.monotonic() - began >= limit and process.returncode:
        raise OutOfTime(f'{name} was stopped after {limit:.0f} s')
    if process.returncode:
        raise RunFailed(f'failed in {name} (exit code {process.returncode}): {reason}')


def last_words(output: Sequence[str], show: Callable[[str], None]) -> str:
    """Show the lines of a program; returns the reason if it failed."""
    reason = ''
    for line in output:
        show(line)
        if line.startswith('error: ') or (line.strip() and 'error: ' not in reason):
            reason = line.strip()
    return reason.removeprefix('error: ') or 'no output'
