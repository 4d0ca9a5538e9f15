"""Which checkpoint a training goes on from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mmengine.config import Config

from ..checkpoints import read_checkpoint
from ..errors import UserError

NAME = re.compile(r'(epoch|iter)_(\d+)\.pth')


def newest_whole(cfg: Config, say: Callable[[str], None]) -> str | None:
    """The checkpoint that ``--resume`` without a file goes on from.

    That is the one in ``last_checkpoint``, or a later one if training was killed between the two.

    Args:
        cfg (Config): Of the training.
        say (Callable[[str], None]): Gets a line for each newer file that is passed over.

    Returns:
        str | None: None if there are no checkpoints.

    Raises:
        UserError: If there are some and none can be read.
    """
    named = last_checkpoint(cfg.work_dir)
    if named and ('://' in named or Path(named).is_dir()):  # a store's, or DeepSpeed's folder
        return named
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    folder = Path(cfg.work_dir)
    if hook.get('out_dir'):
        folder = Path(hook['out_dir'], folder.name)
    found = [path.resolve() for path in checkpoints(folder, hook.get('filename_tmpl'))]
    if named:
        last = Path(named).resolve()
        later = [p for p in found if step_of(p) > step_of(last) and time_of(p) > time_of(last)]
        # The others may be of an earlier training in the same folder.
        found = [*later, last, *(path for path in found if path not in [*later, last])]
    path = newest_readable(found, say)
    return None if path is None else str(path)


def last_checkpoint(work_dir: str | Path) -> str:
    """What mmengine's file ``last_checkpoint`` names, '' if there is none."""
    file = Path(work_dir, 'last_checkpoint')
    return file.read_text(errors='replace').strip() if file.is_file() else ''


def newest_readable(
    paths: Sequence[Path], say: Callable[[str], None] = lambda line: None
) -> Path | None:
    """The first checkpoint that can be read; others' tools leave half a file when they are killed.

    Args:
        paths (Sequence[Path]): Checkpoints, newest first.
        say (Callable[[str], None]): Gets a line for each one that is passed over. Defaults to
            nothing.

    Returns:
        Path | None: None if there are none.

    Raises:
        UserError: If there are some and none can be read.
    """
    problems = []
    for path in paths:
        try:
            read_checkpoint(path)
        except UserError as problem:
            problems.append(problem)
        else:
            for problem in problems:
                say(f'passed over: {problem}')
            return path
    if problems:
        raise UserError(f'cannot resume: {problems[0]}; move it away to start anew')
    return None


def checkpoints(folder: Path, template: str | None = None) -> list[Path]:
    """The regular checkpoints in a folder, newest first.

    Args:
        folder (Path): A work dir.
        template (str, optional): Names that the config gives them, such as 'step_{}.pth'. Defaults
            to None.
    """
    patterns = [NAME]
    if template:
        patterns.append(re.compile(re.escape(template).replace(r'\{\}', r'\d+')))
    names = folder.glob('*')
    return by_age(p for p in names if any(pattern.fullmatch(p.name) for pattern in patterns))


def by_age(paths: Iterable[Path]) -> list[Path]:
    """Checkpoints, newest first: by their steps; by their times where steps are of two kinds."""
    paths = list(paths)
    kinds = {re.sub(r'\d+', '', path.name) for path in paths}
    return sorted(paths, key=step_of if len(kinds) == 1 else time_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The epoch or iteration after which a regular checkpoint was written, which ends its name."""
    digits = re.findall(r'\d+', checkpoint.stem)
    return int(digits[-1]) if digits else 0


def time_of(checkpoint: Path) -> int:
    """When a file was written, 0 if it is not there."""
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
