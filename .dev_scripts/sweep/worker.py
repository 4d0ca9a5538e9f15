"""Calls of a function in processes of their own, within limits of time and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from signal import SIG_IGN, SIGINT, Signals, signal
from threading import Lock

from mmcnnmod.toolboxes import is_absent

GIGABYTE = 1e9
INTERVAL = 0.5  # between two looks at time and memory, in seconds
TOOLBOXES = [name for name in ('mmpretrain', 'mmseg', 'mmdet') if not is_absent(name)]

# Every call runs in a fork of a server that has imported the toolboxes. A fork of this process
# would take over locks that its threads hold.
CONTEXT = get_context('forkserver')
CONTEXT.set_forkserver_preload(['mmcnnmod', *(f'{name}.models' for name in TOOLBOXES)])
# multiprocessing looks after its children without one: two threads could read the same exit code.
LOCK = Lock()


class WorkerDied(Exception):
    """The process ended before the function returned; the message says why."""


class Worker:
    """Calls a function in a new process each time. Several threads may use it at once.

    Args:
        function (Callable): Importable by its name; returns a dict.
        seconds (float): How long a call may take.
        gigabytes (float): How much memory its process may hold.
    """

    def __init__(self, function: Callable[..., dict], seconds: float, gigabytes: float) -> None:
        self.function = function
        self.seconds = seconds
        self.gigabytes = gigabytes
        self.ended = False

    def __call__(self, *args) -> dict:
        """Call the function.

        Returns:
            dict: What it returned; if the process died ``step`` 'process', ``error``, ``seconds``.
        """
        begin = time.monotonic()
        try:
            return self.call(args)
        except WorkerDied as death:
            seconds = round(time.monotonic() - begin, 1)
            return {'step': 'process', 'error': str(death), 'seconds': seconds}

    def call(self, args: tuple) -> dict:
        """Call the function; raises WorkerDied if the process died or had to be killed."""
        deadline = time.monotonic() + self.seconds
        if self.ended:
            raise WorkerDied('ended with the sweep')
        ours, theirs = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=serve, args=(self.function, args, theirs), daemon=True)
        with LOCK:
            process.start()
        theirs.close()
        try:
            while not ours.poll(INTERVAL):
                if self.ended:
                    raise WorkerDied('ended with the sweep')
                if time.monotonic() > deadline:
                    raise WorkerDied(f'ended after {self.seconds:g} s')
                if resident_bytes(process.pid) > self.gigabytes * GIGABYTE:
                    raise WorkerDied(f'ended with more than {self.gigabytes:g} GB of memory')
            return ours.recv()
        except (EOFError, OSError):
            with LOCK:
                process.join()
            code = process.exitcode
            how = f'ended with exit code {code}' if code >= 0 else f'died of {Signals(-code).name}'
            raise WorkerDied(f'the process {how}') from None
        finally:
            process.kill()
            with LOCK:
                process.join()
            ours.close()

    def end(self) -> None:
        """End all calls, and start no other; from any thread."""
        self.ended = True


def serve(function: Callable[..., dict], args: tuple, connection: Connection) -> None:
    """What the process does."""
    # Ctrl-C reaches every process; the one that asks ends the others.
    signal(SIGINT, SIG_IGN)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    connection.send(function(*args))


def resident_bytes(pid: int) -> int:
    """How much memory a process holds; 0 once it is gone."""
    try:
        pages = Path(f'/proc/{pid}/statm').read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf('SC_PAGE_SIZE')
