"""Write a data set completely or not at all, and show the progress."""

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
    """The destination cannot be used; the message is for the user."""


def is_complete(dest: Path, record: dict) -> bool:
    """Whether ``dest`` holds a complete data set with this record."""
    # The data set gets its record last, so that a folder with a record is complete.
    try:
        return json.loads((dest / RECORD).read_text(encoding='utf-8')) == record
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def output_folder(dest: Path, record: dict, overwrite: bool) -> Iterator[Path]:
    """Provide a temporary folder; when the with block succeeds, rename it to ``dest``.

    The record is written to ``generated.json``. Contents of ``dest`` are replaced only with
    ``overwrite``. Raises OutputError if ``dest`` has contents or cannot be written.
    """
    dest = dest.resolve()  # a symbolic link remains, and its target is replaced
    if not dest.name:
        raise OutputError(f"'{dest}' cannot be replaced")
    partial, old = (dest.with_name(dest.name + end) for end in ('.partial', '.generate-old'))
    try:
        if old.exists() and not dest.exists():  # an earlier run was killed between two renames
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
            shutil.rmtree(old, ignore_errors=True)  # last, so that there always is one of the two
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
    # Replacing deletes the contents.
    if any(folder.resolve().is_relative_to(dest) for folder in (Path.cwd(), Path.home())):
        raise OutputError(f"'{dest}' holds the current or the home folder; choose another one")


def progress(jobs: Sequence, title: str) -> Iterable:
    """Iterate over the jobs with a progress bar or, without a terminal, a line per 10 %."""
    if sys.stdout.isatty():
        from rich.progress import track

        yield from track(jobs, description=title)
        return
    for done, job in enumerate(jobs, 1):
        yield job
        if done * 10 // len(jobs) > (done - 1) * 10 // len(jobs):
            print(f'{title}: {done}/{len(jobs)} ({done * 100 // len(jobs)}%)', flush=True)


def save_image(path: Path, image: np.ndarray) -> None:
    """Write a PNG or JPEG, depending on the suffix, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, compress_level=2, quality=92)


def save_text(path: Path, lines: Iterable[str]) -> None:
    """Write lines to a text file, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
