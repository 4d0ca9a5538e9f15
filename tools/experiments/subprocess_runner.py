"""Runs tools/train.py and tools/test.py as subprocesses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Timer

# Seconds between SIGTERM and SIGKILL.
GRACE = 20.0


class RunFailed(Exception):
    """Training or testing failed; the other runs are still started."""


class RunTimeout(Exception):
    """A run was stopped because its time limit was reached."""


def end_child_when_terminated() -> None:
    """Let SIGTERM end this program as Ctrl-C does, together with its subprocess."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


print_line = partial(print, end='', flush=True)


def run_program(
    name: str,
    gpus: int | None,
    *arguments,
    show: Callable[[str], None] = print_line,
    seconds: float | None = None,
    keep_open: Sequence[int] = (),
) -> None:
    """Run the main function of tools/train.py or tools/test.py in a subprocess and show its output.

    Args:
        name (str): 'train' or 'test'.
        gpus (int, optional): Number of GPUs; None for one process without a launcher.
        *arguments: Command-line arguments of the program.
        show (Callable[[str], None]): Called with each line of output. Defaults to printing it.
        seconds (float, optional): Time limit. Defaults to None, no limit.
        keep_open (Sequence[int]): File descriptors that the subprocess inherits, such as a lock's.

    Raises:
        RunFailed: With the error line of the program.
        RunTimeout: If the time limit was reached.
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
            reason = tail_of_output(process.stdout, show)
        except BaseException:
            process.terminate()
            raise
        finally:
            for clock in clocks:
                clock.cancel()
    if limit is not None and time.monotonic() - began >= limit and process.returncode:
        raise RunTimeout(f'{name} was stopped after {limit:.0f} s')
    if process.returncode:
        raise RunFailed(f'failed in {name} (exit code {process.returncode}): {reason}')


def tail_of_output(output: Sequence[str], show: Callable[[str], None]) -> str:
    """Show the lines of a program and return its error line, or else its last line."""
    reason = ''
    for line in output:
        show(line)
        if line.startswith('error: ') or (line.strip() and 'error: ' not in reason):
            reason = line.strip()
    return reason.removeprefix('error: ') or 'no output'
