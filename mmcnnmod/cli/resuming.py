"""Finding the checkpoint to resume from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config

from ..checkpoints import read_checkpoint
from ..errors import UserError

NAME = re.compile(r'(epoch|iter)_\d+\.pth')


def checkpoint_to_resume(cfg: Config, log: Callable[[str], None]) -> str | None:
    """The checkpoint for ``--resume`` without a file; None if there are none.

    It is the one in ``last_checkpoint``, or a later one if training was killed before that file was
    written. For ``log`` and errors see :func:`newest_readable`.
    """
    named, folder = last_checkpoint(cfg.work_dir), Path(cfg.work_dir)
    if named and ('://' in named or Path(named).is_dir()):  # an object store, or DeepSpeed's folder
        return named
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    if hook.get('out_dir'):
        folder = Path(hook['out_dir'], folder.name)
    found = [path.resolve() for path in checkpoints(folder, hook.get('filename_tmpl'))]
    if named:
        last = Path(named).resolve()
        later = [p for p in found if step_of(p) > step_of(last) and time_of(p) > time_of(last)]
        # Others may be from an earlier training in the same folder.
        found = list(dict.fromkeys([*later, last, *found]))
    path = newest_readable(found, log)
    return None if path is None else str(path)


def last_checkpoint(work_dir: str | Path) -> str:
    """The content of mmengine's file ``last_checkpoint``; '' if there is none."""
    file = Path(work_dir, 'last_checkpoint')
    return file.read_text(errors='replace').strip() if file.is_file() else ''


def newest_readable(
    paths: Sequence[Path], log: Callable[[str], None] = lambda line: None
) -> Path | None:
    """The first checkpoint that can be read; mmengine leaves incomplete files when it is killed.

    Args:
        paths (Sequence[Path]): Checkpoints, newest first.
        log (Callable[[str], None]): Called with a line for each skipped checkpoint. Defaults to
            no logging.

    Returns:
        Path | None: None if ``paths`` is empty.

    Raises:
        UserError: If no checkpoint can be read.
    """
    problems = []
    for path in paths:
        try:
            read_checkpoint(path)
        except UserError as problem:
            problems.append(problem)
        else:
            for problem in problems:
                log(f'skipped: {problem}')
            return path
    if problems:
        raise UserError(f'cannot resume: {problems[0]}; move it away to start from the beginning')
    return None


def checkpoints(folder: Path, template: str | None = None) -> list[Path]:
    """The regular checkpoints in a folder, newest first.

    They are sorted by step, or by time if some count epochs and others iterations.

    Args:
        folder (Path): A work dir.
        template (str, optional): The config's pattern of their names, such as 'step_{}.pth'.
            Defaults to None.
    """
    custom = re.escape(template or '').replace(r'\{\}', r'\d+')
    paths = [p for p in folder.glob('*') if NAME.fullmatch(p.name) or re.fullmatch(custom, p.name)]
    kinds = {re.sub(r'\d+', '', path.name) for path in paths}
    return sorted(paths, key=step_of if len(kinds) == 1 else time_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The epoch or iteration after which a checkpoint was written; its name ends with it."""
    digits = re.findall(r'\d+', checkpoint.stem)
    return int(digits[-1]) if digits else 0


def time_of(checkpoint: Path) -> int:
    """When a file was written; 0 if it does not exist."""
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
