"""Runs tools/train.py and tools/test.py as subprocesses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Timer

SECONDS_UNTIL_KILL = 20.0  # after SIGTERM


class RunFailed(Exception):
    """The training or test of a run failed. Other runs are not affected."""


class RunTimeout(Exception):
    """A run was stopped because its time limit was reached."""


def end_child_when_terminated() -> None:
    """Make SIGTERM end this program and its subprocess, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def run_program(
    name: str,
    gpus: int | None,
    *arguments,
    show: Callable[[str], None],
    seconds: float | None,
    keep_open: Sequence[int],
) -> None:
    """Run tools/train.py or tools/test.py in a subprocess and show its output.

    Args:
        name (str): 'train' or 'test'.
        gpus (int, optional): Number of GPUs; None for one process without a launcher.
        *arguments: Command-line arguments of the program.
        show (Callable[[str], None]): Called with each line of output.
        seconds (float, optional): The time limit; None for no limit.
        keep_open (Sequence[int]): File descriptors that the subprocess inherits, such as a lock's.

    Raises:
        RunFailed: If the program fails. The message contains the last line of its output.
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
    start = time.monotonic()
    limits = {} if seconds is None else {0: process.terminate, SECONDS_UNTIL_KILL: process.kill}
    timers = [Timer(seconds + more, stop) for more, stop in limits.items()]
    with process:
        try:
            for timer in timers:
                timer.start()
            reason = show_output(process.stdout, show)
        except BaseException:
            process.terminate()
            raise
        finally:
            for timer in timers:
                timer.cancel()
    if process.returncode:
        if seconds is not None and time.monotonic() - start >= seconds:
            raise RunTimeout(f'{name} was stopped after {seconds:.0f} s')
        raise RunFailed(f'failed in {name} (exit code {process.returncode}): {reason}')


def show_output(output: Iterable[str], show: Callable[[str], None]) -> str:
    """Show the lines of a program; returns its error line, or else its last line."""
    reason = ''
    for line in output:
        show(line)
        if line.startswith('error: ') or (line.strip() and 'error: ' not in reason):
            reason = line.strip()
    return reason.removeprefix('error: ') or 'no output'
