"""Calls a function in a separate process, with limits of time and memory."""

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
INTERVAL = 0.5  # seconds between two checks of time and memory
ENDED = 'ended with the sweep'
TOOLBOXES = [name for name in ('mmpretrain', 'mmseg', 'mmdet') if not is_absent(name)]

# Every call runs in a fork of a server that has imported the toolboxes. A fork of this process
# could inherit locks that its threads hold.
CONTEXT = get_context('forkserver')
CONTEXT.set_forkserver_preload(['mmcnnmod', *(f'{name}.models' for name in TOOLBOXES)])
# Two threads of multiprocessing could collect the exit code of the same process.
LOCK = Lock()


class Worker:
    """Calls a function in a new process each time. Several threads may use it at once.

    Args:
        function (Callable): Must be importable by its name and return a dict.
        seconds (float): The time limit of a call.
        gigabytes (float): The memory limit of a call.
    """

    def __init__(self, function: Callable[..., dict], seconds: float, gigabytes: float) -> None:
        self.function = function
        self.seconds = seconds
        self.gigabytes = gigabytes
        self.ended = False

    def __call__(self, *args) -> dict:
        """Call the function.

        Returns:
            dict: The function's result. If its process ended early: ``step`` 'process', ``error``
            and ``seconds``.
        """
        begin = time.monotonic()
        if self.ended:
            return {'step': 'process', 'error': ENDED, 'seconds': 0.0}
        ours, theirs = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=serve, args=(self.function, args, theirs), daemon=True)
        with LOCK:
            process.start()
        theirs.close()
        try:
            while not (error := self.reason_to_end(process.pid, time.monotonic() - begin)):
                if ours.poll(INTERVAL):
                    return ours.recv()
        except (EOFError, OSError):
            with LOCK:
                process.join()
            code = process.exitcode
            how = f'ended with exit code {code}' if code >= 0 else f'died of {Signals(-code).name}'
            error = f'the process {how}'
        finally:
            process.kill()
            with LOCK:
                process.join()
            ours.close()
        return {'step': 'process', 'error': error, 'seconds': round(time.monotonic() - begin, 1)}

    def reason_to_end(self, pid: int, seconds: float) -> str:
        """Why a process that has run for some seconds must end; '' if it may go on."""
        if self.ended:
            return ENDED
        if seconds > self.seconds:
            return f'ended after {self.seconds:g} s'
        if resident_bytes(pid) > self.gigabytes * GIGABYTE:
            return f'ended with more than {self.gigabytes:g} GB of memory'
        return ''

    def end(self) -> None:
        """End all calls, and all later ones; any thread may call this."""
        self.ended = True


def serve(function: Callable[..., dict], args: tuple, connection: Connection) -> None:
    """Call the function in the new process, without output."""
    # Ctrl-C reaches every process; the parent process ends the others.
    signal(SIGINT, SIG_IGN)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    connection.send(function(*args))


def resident_bytes(pid: int) -> int:
    """The memory of a process; 0 if the process has ended."""
    try:
        pages = Path(f'/proc/{pid}/statm').read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf('SC_PAGE_SIZE')
