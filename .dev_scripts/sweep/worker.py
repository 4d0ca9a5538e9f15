"""A process that does one job after another, and is replaced when it dies or takes too much."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

GIGABYTE = 1e9
# How often time and memory are looked at, and how long a dying process may take, in seconds.
INTERVAL = 0.5
DYING = 10


class Death(Exception):
    """The process is gone; the text says why."""


class Worker:
    """Calls a function in another process.

    Args:
        function (Callable): Importable by its name; returns a dict.
        seconds (float): How long a call may take.
        gigabytes (float): How much memory the process may hold.
    """

    def __init__(self, function: Callable[..., dict], seconds: float, gigabytes: float) -> None:
        self.function = function
        self.seconds = seconds
        self.gigabytes = gigabytes
        self.process = None
        self.connection = None
        self.ended = False

    def __call__(self, *args) -> dict:
        """Call the function.

        Returns:
            dict: What it returned; if the process died ``step`` 'process', ``error``, ``seconds``.
        """
        begin = time.monotonic()
        fresh = self.process is None
        try:
            try:
                return self.ask(args)
            except Death:
                # Earlier calls may be to blame, though not for the time that this one took.
                if fresh or time.monotonic() - begin > self.seconds:
                    raise
                return self.ask(args)
        except Death as death:
            seconds = round(time.monotonic() - begin, 1)
            return {'step': 'process', 'error': str(death), 'seconds': seconds}

    def ask(self, args: tuple) -> dict:
        """Call the function once.

        Raises:
            Death: If the process died or had to be ended.
        """
        if self.ended:
            raise Death('ended with the sweep')
        if self.process is None:
            self.start()
        try:
            self.connection.send(args)
            self.wait()
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join(DYING)
            exitcode = self.process.exitcode
            self.stop()
            raise Death(how_it_ended(exitcode)) from None
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Wait for the answer, and keep an eye on the limits."""
        deadline = time.monotonic() + self.seconds
        while not self.connection.poll(INTERVAL):
            if time.monotonic() > deadline:
                raise Death(f'ended after {self.seconds:g} s')
            if resident_bytes(self.process.pid) > self.gigabytes * GIGABYTE:
                raise Death(f'ended with more than {self.gigabytes:g} GB of memory')

    def start(self) -> None:
        """Start the process."""
        # A fork would take over locks that other threads hold.
        context = get_context('spawn')
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(self.function, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def end(self) -> None:
        """End the process and start no other; from any thread."""
        self.ended = True
        if self.process is not None:
            self.process.kill()

    def stop(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = self.connection = None


def serve(function: Callable[..., dict], connection: Connection) -> None:
    """What the process does, until nobody is there to ask any more."""
    # Ctrl-C reaches every process; the one that asks ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    while True:
        try:
            args = connection.recv()
        except EOFError:
            return
        connection.send(function(*args))


def resident_bytes(pid: int) -> int:
    """How much memory a process holds; 0 once it is gone."""
    try:
        pages = Path(f'/proc/{pid}/statm').read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf('SC_PAGE_SIZE')


def how_it_ended(exitcode: int | None) -> str:
    """An exit code in words."""
    if exitcode is not None and exitcode < 0:
        return f'the process died of {signal.Signals(-exitcode).name}'
    return f'the process ended with exit code {exitcode}'
