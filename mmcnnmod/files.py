"""Writing files completely or not at all, even if the program or the machine stops."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from .errors import UserError

# The start of the names of the temporary folders. They end with the suffix of the file.
PARTIAL = '.partial-'


def check_out(path: str | Path | None) -> None:
    """Raise a UserError if a file, if any, is a folder, or its own folder is not writable."""
    if path is None:
        return
    folder = Path(path).parent
    if Path(path).is_dir():
        raise UserError(f'{path} is a folder; name a file in it')
    if not os.access(folder, os.W_OK):
        what = 'is not writable' if folder.is_dir() else 'does not exist'
        raise UserError(f'{path} cannot be written: the folder {folder} {what}')


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file completely or not at all.

    The yielded path has the same name, in a hidden temporary folder beside ``path``. On success all
    files in that folder (some formats write several) are synchronised to disk and moved beside
    ``path``, where they replace existing ones; ``path`` itself comes last. On any error the
    temporary folder is removed, and an existing file does not change. Several processes can write
    the same file at once.

    Args:
        path (str | Path): The file. Missing parent folders are created.

    Yields:
        Path: Where to write.

    Raises:
        UserError: If the file cannot be written, with the system's reason.
    """
    path = Path(path)
    folder, created = None, []
    try:
        created = [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=PARTIAL, suffix=path.suffix, dir=path.parent))
        partial = folder / path.name
        yield partial
        files = [*(file for file in folder.iterdir() if file != partial), partial]
        for file in files:
            sync(file)
        for file in files:
            file.replace(path.with_name(file.name))
        sync(path.parent)
    except OSError as problem:
        raise UserError(f'{path} cannot be written: {problem.strerror or problem}') from problem
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # the folder is not empty if the file was written
            for parent in created:
                parent.rmdir()


def sync(path: Path) -> None:
    """Synchronise a file, or the list of files in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        # Some file systems cannot synchronise folders.
        if not (path.is_dir() and problem.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def remove_partials(folder: str | Path, suffix: str = '') -> None:
    """Remove the temporary folders that killed processes have left.

    Args:
        folder (str | Path): The folder to clean. No other process may be writing a file in it.
        suffix (str): Only remove incomplete files with this suffix. Defaults to all.
    """
    for partial in Path(folder).glob(f'{PARTIAL}*{suffix}'):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:  # written by version 0.1
            partial.unlink()
