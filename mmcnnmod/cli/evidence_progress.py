"""How far a training is, read off what it prints."""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import TextIO

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

ETA = re.compile(r'\(train\).* eta: (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)')


class RunProgress:
    """A bar for one training, or one line where nobody watches; its output goes to a log.

    Args:
        title (str): Beside the bar.
        log (TextIO): Gets every line.
    """

    def __init__(self, title: str, log: TextIO) -> None:
        self.log = log
        self.began: float | None = None
        self.progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn('{task.fields[left]}'),
        )
        self.watched = self.progress.console.is_terminal
        if not self.watched:
            print(title, flush=True)
        self.task = self.progress.add_task(title, total=1.0, left='starts')

    def __enter__(self) -> RunProgress:
        if self.watched:
            self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.watched:
            self.progress.stop()

    def show(self, line: str) -> None:
        """Take a line of the training's output.

        Args:
            line (str): With its line break.
        """
        self.log.write(line)
        self.log.flush()
        seconds = seconds_left(line)
        if seconds is None:
            return
        now = time.monotonic()
        # The part before the first line is the start, of which the training's estimate knows
        # nothing.
        self.began = self.began or now
        done = now - self.began
        share = done / (done + seconds) if seconds else 1.0
        minutes, rest = divmod(round(seconds), 60)
        self.progress.update(self.task, completed=share, left=f'{minutes}:{rest:02} left')


def seconds_left(line: str) -> int | None:
    """The estimate in a line that mmengine logs while it trains; None in any other line."""
    match = ETA.search(line)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
