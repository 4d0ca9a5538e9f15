"""Writing a set so that it is either whole or not there, and telling how far it is."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

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
    """Give a folder to write into, which takes the name ``dest`` when all has gone well.

    Args:
        dest: Where the set shall be.
        record: What is noted in the set's ``generated.json``.
        overwrite: Whether a set that is there may be replaced.

    Raises:
        OutputError: If ``dest`` is in use or cannot be written.
    """
    dest = dest.resolve()  # a link keeps pointing where it did
    if not dest.name:
        raise OutputError(f"'{dest}' cannot be replaced")
    partial, old = _sibling(dest, '.partial'), _sibling(dest, '.generate-old')
    try:
        _recover(dest, old)
        _check(dest, overwrite)
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot write '{dest}': {error.strerror or error}") from error
    try:
        yield partial
        text = json.dumps(record, indent=2, sort_keys=True)
        (partial / RECORD).write_text(text + '\n', encoding='utf-8')
        _swap(dest, partial, old)
    except OSError as error:
        raise OutputError(f"cannot write '{dest}': {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sibling(dest: Path, suffix: str) -> Path:
    return dest.with_name(dest.name + suffix)


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


def _recover(dest: Path, old: Path) -> None:
    """Undo a replacement that was killed between its two renames."""
    if not old.exists():
        return
    if dest.exists():
        shutil.rmtree(old)
    else:
        old.rename(dest)


def _swap(dest: Path, partial: Path, old: Path) -> None:
    """Put the new folder in place; the old one goes only after that."""
    if not dest.exists():
        partial.rename(dest)
        return
    dest.rename(old)
    try:
        partial.rename(dest)
    except OSError:
        old.rename(dest)
        raise
    shutil.rmtree(old)


def progress(jobs: Sequence, title: str) -> Iterable:
    """Go through the jobs and show how far it is, on a terminal or in a log."""
    if sys.stdout.isatty():
        from rich.progress import track

        yield from track(jobs, description=title)
        return
    shown = 0
    for done, job in enumerate(jobs, 1):
        yield job
        tenth = done * 10 // len(jobs)
        if tenth > shown:
            shown = tenth
            print(f'{title}: {done}/{len(jobs)} ({done * 100 // len(jobs)}%)', flush=True)


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write a PNG; colour pictures are RGB or RGBA."""
    _save(path, '.png', picture, [cv2.IMWRITE_PNG_COMPRESSION, 2])


def save_jpeg(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture as JPEG, whatever the path's ending."""
    _save(path, '.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 92])


def _save(path: Path, kind: str, picture: np.ndarray, options: list[int]) -> None:
    if picture.ndim == 3:
        order = cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        picture = cv2.cvtColor(picture, order)
    _, data = cv2.imencode(kind, picture, options)
    path.write_bytes(data.tobytes())  # cv2.imwrite would hide a full disk


def save_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a list file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
