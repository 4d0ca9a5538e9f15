"""Writing a set so that it is either complete or not there, and showing the progress."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

RECORD = 'generated.json'


class OutputError(Exception):
    """The destination cannot be used; the message is meant for the user."""


def is_made(dest: Path, record: dict) -> bool:
    """Whether ``dest`` holds a complete set made from exactly this record."""
    # The record comes with the final rename, so where it is, the set is complete.
    try:
        return json.loads((dest / RECORD).read_text(encoding='utf-8')) == record
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def whole_folder(dest: Path, record: dict, overwrite: bool) -> Iterator[Path]:
    """Give a folder to write into, which is renamed to ``dest`` when all has gone well.

    The record is written into it as ``generated.json``; only with ``overwrite`` a set that is there
    is replaced. Raises OutputError if ``dest`` is in use or cannot be written.
    """
    dest = dest.resolve()  # a link keeps pointing where it did
    if not dest.name:
        raise OutputError(f"'{dest}' cannot be replaced")
    partial, old = (dest.with_name(dest.name + end) for end in ('.partial', '.generate-old'))
    try:
        if old.exists() and not dest.exists():  # an earlier replacement was killed half-way
            old.rename(dest)
        _check(dest, overwrite)
        for leftover in (partial, old):
            if leftover.exists():
                shutil.rmtree(leftover)
        partial.mkdir(parents=True)
        try:
            yield partial
            text = json.dumps(record, indent=2, sort_keys=True)
            (partial / RECORD).write_text(text + '\n', encoding='utf-8')
            if dest.exists():
                dest.rename(old)
            try:
                partial.rename(dest)
            except OSError:
                if old.exists():
                    old.rename(dest)
                raise
            shutil.rmtree(old, ignore_errors=True)  # only now, so that one of the two stays
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write '{dest}': {error.strerror or error}") from error


def _check(dest: Path, overwrite: bool) -> None:
    if dest.exists() and not dest.is_dir():
        raise OutputError(f"'{dest}' is not a folder")
    if not dest.is_dir() or not any(dest.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"'{dest}' is not empty; add --overwrite to replace it")
    # Replacing means deleting: never the folder someone works or lives in.
    if any(place.resolve().is_relative_to(dest) for place in (Path.cwd(), Path.home())):
        raise OutputError(f"'{dest}' holds the current or the home folder; choose another one")


def progress(jobs: Sequence, title: str) -> Iterable:
    """Go through the jobs and show how far it is, on a terminal or in a log."""
    if sys.stdout.isatty():
        from rich.progress import track

        yield from track(jobs, description=title)
        return
    for done, job in enumerate(jobs, 1):
        yield job
        if done * 10 // len(jobs) > (done - 1) * 10 // len(jobs):
            print(f'{title}: {done}/{len(jobs)} ({done * 100 // len(jobs)}%)', flush=True)


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write a PNG or JPEG, by the path's ending, into a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=2, quality=92)


def save_text(path: Path, lines: Iterable[str]) -> None:
    """Write a text file into a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
