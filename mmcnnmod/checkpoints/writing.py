"""Files that are whole or not there, whenever the program or the machine stops."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError

# Before the name of a file that is written. Its end stays, for it may choose the format.
PARTIAL = '.partial-'


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A path to write to; what is there takes the name ``path`` when it is whole and on the disk.

    Args:
        path (str | Path): The file. One that is there is replaced in one step, or not at all.

    Yields:
        Path: Beside it, hidden.

    Raises:
        UserError: If it cannot be written, with the system's reason.
    """
    path = Path(path)
    partial = path.with_name(f'{PARTIAL}{path.name}')
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except OSError as problem:
        raise UserError(f'{path} cannot be written: {problem.strerror or problem}') from problem
    finally:
        remove(partial)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        # Some file systems keep no list of their own.
        if not (path.is_dir() and problem.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # a disk that turned read-only; there is an error already
            path.unlink(missing_ok=True)
