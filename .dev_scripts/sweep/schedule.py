"""Which configs there are to try, and how each of them turns out."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from .case import config_folder, dense_backbones, make_case, read_config
from .smoke_run import describe

WORKS = 'works'
UPSTREAM = 'the dense original fails the same way'
OURS = 'our fault'
# By how much the size of the images is multiplied, and the steps for which that matters.
FACTORS = (1, 3)
ON_IMAGES = ('loss', 'predict')
# From the folder of a toolbox's configs to that of those in the new style.
NEW_STYLE = '../../configs'


@dataclass(frozen=True)
class Entry:
    """A config of a toolbox.

    Attributes:
        toolbox (str): Whose it is.
        name (str): Its path below the toolbox's configs.
        backbone (str): The types of its dense backbones that have an MoD version; '' for none.
        digest (str): Equal for configs that need to be tried once only.
        error (str): Why it cannot be read; '' if it can.
    """

    toolbox: str
    name: str
    backbone: str = ''
    digest: str = ''
    error: str = ''

    @property
    def title(self) -> str:
        """The toolbox and the name."""
        return f'{self.toolbox}/{self.name}'


def shuffled(
    toolboxes: list[str], seed: int, others: tuple[tuple[str, Path], ...] = ()
) -> list[tuple[str, str]]:
    """Toolboxes and names of all their configs and of those in other folders, shuffled.

    Configs of the new style lie in a package beside the others, where a wheel has them.
    """
    every = []
    for toolbox in toolboxes:
        folder = config_folder(toolbox)
        every += [(toolbox, name) for name in names_below(folder)]
        new_style = names_below(folder.parents[1] / 'configs')
        every += [(toolbox, f'{NEW_STYLE}/{name}') for name in new_style]
    every += [(box, str(folder / name)) for box, folder in others for name in names_below(folder)]
    random.Random(seed).shuffle(every)
    return every


def names_below(folder: Path) -> list[str]:
    """The configs in a folder, if there is one, without those that are only inherited from."""
    names = (path.relative_to(folder) for path in folder.rglob('*.py'))
    return sorted(
        str(name) for name in names if '_base_' not in name.parts and name.stem != '__init__'
    )


def look_at(toolbox: str, name: str) -> Entry:
    """Read a config."""
    try:
        cfg = read_config(toolbox, name)
    # A broken file may raise anything; it is the toolbox's own.
    except Exception as problem:
        return Entry(toolbox, name, error=describe(problem))
    nodes = dense_backbones(cfg).values() if cfg.get('model') else ()
    backbone = ', '.join(sorted({node['type'] for node in nodes}))
    if not backbone:
        return Entry(toolbox, name)
    try:
        digest = make_case(cfg, swapped=True).digest()
    except Exception:  # the smoke run will fail in the same way, and say how
        digest = name
    return Entry(toolbox, name, backbone, digest)


def examine(entry: Entry, smoke_run: Callable[..., dict]) -> dict:
    """Try a config with MoD backbones, and if that fails with its dense ones.

    If both fail, the images may be too small for the model, so larger ones are tried.

    Returns:
        dict: ``outcome`` and ``seconds``; unless it works both ``step`` and ``error``, and if the
            dense original fails ``dense_step`` and ``dense_error``.
    """
    for factor in FACTORS:
        swapped = smoke_run(entry.toolbox, entry.name, True, factor)
        if 'error' not in swapped:
            return {'outcome': WORKS, **swapped}
        dense = smoke_run(entry.toolbox, entry.name, False, factor)
        # Errors before the model is built are ours, with a dense backbone too.
        upstream = swapped['step'] != 'swap' and essence(swapped) == essence(dense)
        if not upstream or swapped['step'] not in ON_IMAGES:
            break
    proof = {f'dense_{key}': dense[key] for key in ('step', 'error') if key in dense}
    return {'outcome': UPSTREAM if upstream else OURS, **swapped, **proof}


def essence(result: dict) -> tuple:
    """The step and the error, without what may differ: names of our classes, and addresses."""
    return result.get('step'), re.sub(r'0x[0-9a-f]+|MoD', '', result.get('error', ''))


def examine_all(
    entries: list[Entry], smoke_run: Callable[..., dict], jobs: int
) -> Iterator[tuple[Entry, dict]]:
    """Examine configs, some at a time.

    Yields:
        tuple[Entry, dict]: A config and what :func:`examine` returned, as they get done.
    """
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(examine, entry, smoke_run): entry for entry in entries}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
