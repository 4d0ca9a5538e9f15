"""A folder that only one program at a time may work in."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError


class Busy(UserError):
    """Another process holds a folder's lock."""


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[int]:
    """Hold a folder's lock, which ends with the process and with all that inherit the descriptor.

    Args:
        folder (Path): It must be there.
        wait (bool): Wait for others instead of failing. Defaults to False.

    Yields:
        int: The descriptor; a process that gets it holds the lock as well.

    Raises:
        Busy: If another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Busy(
                f'another process works in {folder}; wait for its end, or end it (`fuser {folder}` '
                'names it)'
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)
