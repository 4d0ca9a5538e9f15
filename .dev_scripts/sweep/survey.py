"""Which configs there are to try, and how each of them turns out."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from .attempt import describe
from .subject import config_folder, dense_backbones, prepare, read

WORKS = 'works'
UPSTREAM = 'the dense original fails the same way'
OURS = 'our fault'
# How many times larger than usual the images get, and the steps for which that matters.
FACTORS = (1, 3)
# From the folder of a toolbox's configs to that of those in the new style.
NEW_STYLE = '../../configs'
ON_IMAGES = ('loss', 'predict')


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


def config_names(toolbox: str) -> list[str]:
    """The configs that a toolbox ships, without those that are there to be inherited from.

    Those of the new style lie in a package beside the others, where a wheel has them.
    """
    folder = config_folder(toolbox)
    new_style = folder.parents[1] / 'configs'
    return names_below(folder) + [f'{NEW_STYLE}/{name}' for name in names_below(new_style)]


def names_below(folder: Path) -> list[str]:
    """The configs in a folder by their paths below it; none if there is no such folder."""
    names = (path.relative_to(folder) for path in folder.rglob('*.py'))
    return sorted(
        str(name) for name in names if '_base_' not in name.parts and name.stem != '__init__'
    )


def shuffled(
    toolboxes: list[str], seed: int, others: tuple[tuple[str, Path], ...] = ()
) -> list[tuple[str, str]]:
    """All configs of some toolboxes, in an order that the seed decides.

    Args:
        toolboxes (list[str]): The toolboxes.
        seed (int): The seed.
        others (tuple[tuple[str, Path], ...]): Toolboxes and further folders with configs for them.
    """
    every = [(toolbox, name) for toolbox in toolboxes for name in config_names(toolbox)]
    every += [(box, str(folder / name)) for box, folder in others for name in names_below(folder)]
    random.Random(seed).shuffle(every)
    return every


def look_at(toolbox: str, name: str) -> Entry:
    """Read a config."""
    try:
        cfg = read(toolbox, name)
    # Whatever a broken file raises: it is the toolbox's own.
    except Exception as problem:
        return Entry(toolbox, name, error=describe(problem))
    if not cfg.get('model'):
        return Entry(toolbox, name)
    backbone = ', '.join(sorted({node['type'] for node in dense_backbones(cfg).values()}))
    if not backbone:
        return Entry(toolbox, name)
    try:
        digest = prepare(cfg, swapped=True).digest()
    except Exception:  # the attempt will fail in the same way, and say how
        digest = name
    return Entry(toolbox, name, backbone, digest)


def examine(entry: Entry, attempt: Callable[..., dict]) -> dict:
    """Try a config with MoD backbones, and if that fails as it came.

    If both fail, the made-up images may be too small for the model, so larger ones are tried.

    Args:
        entry (Entry): The config.
        attempt (Callable): :func:`sweep.attempt.attempt`, directly or in a worker.

    Returns:
        dict: ``outcome`` and ``seconds``; unless it works both ``step`` and ``error``, and if the
            dense original fails ``dense_step`` and ``dense_error``.
    """
    for factor in FACTORS:
        swapped = attempt(entry.toolbox, entry.name, True, factor)
        if 'error' not in swapped:
            return {'outcome': WORKS, **swapped}
        dense = attempt(entry.toolbox, entry.name, False, factor)
        # What makes the config fit is ours, dense or not.
        upstream = swapped.get('step') != 'swap' and same_failure(swapped, dense)
        outcome = UPSTREAM if upstream else OURS
        if outcome == OURS or swapped['step'] not in ON_IMAGES:
            break
    proof = {f'dense_{key}': dense[key] for key in ('step', 'error') if key in dense}
    return {'outcome': outcome, **swapped, **proof}


def same_failure(swapped: dict, dense: dict) -> bool:
    """Whether two attempts failed in the same step, with the same error in the same place."""

    def essence(result: dict) -> tuple:
        # Names of our classes, addresses and sizes may differ.
        text = re.sub(r'0x[0-9a-f]+|MoD', '', result.get('error', ''))
        return result.get('step'), text

    return 'error' in dense and essence(swapped) == essence(dense)


def examine_all(
    entries: list[Entry], attempts: list[Callable[..., dict]]
) -> Iterator[tuple[Entry, dict]]:
    """Examine configs, as many at a time as there are ways to attempt one.

    Yields:
        tuple[Entry, dict]: A config and what :func:`examine` returned, as they get done.
    """
    todo, done = SimpleQueue(), SimpleQueue()
    for entry in entries:
        todo.put(entry)

    def work(attempt: Callable[..., dict]) -> None:
        try:
            while True:
                entry = todo.get_nowait()
                done.put((entry, examine(entry, attempt)))
        except Empty:
            pass
        except Exception as problem:
            done.put((None, problem))

    for attempt in attempts:
        Thread(target=work, args=(attempt,), daemon=True).start()
    for _ in entries:
        entry, result = done.get()
        if entry is None:
            raise result
        yield entry, result
