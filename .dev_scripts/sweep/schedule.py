"""Finds the toolboxes' configs, tries them and classifies the outcomes."""

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
# Factors of the image size, and the steps that depend on it.
FACTORS = (1, 3)
IMAGE_STEPS = ('loss', 'predict')


@dataclass(frozen=True)
class Entry:
    """A config of a toolbox.

    Attributes:
        toolbox (str): The toolbox.
        name (str): The path below the toolbox's config folder.
        backbone (str): The types of its dense backbones that have an MoD version; '' without any.
        digest (str): Equal for configs of which only one has to be tried.
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


def shuffled_configs(
    toolboxes: list[str], seed: int, others: tuple[tuple[str, Path], ...] = ()
) -> list[tuple[str, str]]:
    """Toolbox and name of every config of the toolboxes and in other folders, shuffled."""
    configs = []
    for toolbox in toolboxes:
        folder = config_folder(toolbox)
        configs += [(toolbox, name) for name in names_below(folder)]
        # Wheels have new-style configs in a package beside .mim.
        new_style = names_below(folder.parents[1] / 'configs')
        configs += [(toolbox, f'../../configs/{name}') for name in new_style]
    configs += [(box, str(folder / name)) for box, folder in others for name in names_below(folder)]
    random.Random(seed).shuffle(configs)
    return configs


def names_below(folder: Path) -> list[str]:
    """The configs in a folder, which may be absent, without those that are only bases."""
    names = (path.relative_to(folder) for path in folder.rglob('*.py'))
    return sorted(
        str(name) for name in names if '_base_' not in name.parts and name.stem != '__init__'
    )


def read_entry(toolbox: str, name: str) -> Entry:
    """Read a config."""
    try:
        cfg = read_config(toolbox, name)
    except Exception as problem:  # a broken config of the toolbox can raise anything
        return Entry(toolbox, name, error=describe(problem))
    nodes = dense_backbones(cfg).values() if cfg.get('model') else ()
    backbone = ', '.join(sorted({node['type'] for node in nodes}))
    if not backbone:
        return Entry(toolbox, name)
    try:
        digest = make_case(cfg, swapped=True).digest()
    except Exception:  # the smoke run will fail in the same way and report it
        digest = name
    return Entry(toolbox, name, backbone, digest)


def examine(entry: Entry, smoke_run: Callable[..., dict]) -> dict:
    """Try a config with MoD backbones and, if that fails, with its dense ones.

    If both fail, the images may be too small for the model, so larger ones are tried.

    Returns:
        dict: ``outcome`` and ``seconds``; ``step`` and ``error`` if it fails; ``dense_step`` and
            ``dense_error`` if the dense original fails, too.
    """
    for factor in FACTORS:
        swapped = smoke_run(entry.toolbox, entry.name, True, factor)
        if 'error' not in swapped:
            return {'outcome': WORKS, **swapped}
        dense = smoke_run(entry.toolbox, entry.name, False, factor)
        # An error before the model is built is ours even if the dense original has it, too.
        upstream = swapped['step'] != 'swap' and comparable(swapped) == comparable(dense)
        if not upstream or swapped['step'] not in IMAGE_STEPS:
            break
    dense = {f'dense_{key}': dense[key] for key in ('step', 'error') if key in dense}
    return {'outcome': UPSTREAM if upstream else OURS, **swapped, **dense}


def comparable(result: dict) -> tuple:
    """Step and error without parts that differ between MoD and dense: class names, addresses."""
    return result.get('step'), re.sub(r'0x[0-9a-f]+|MoD', '', result.get('error', ''))


def examine_all(
    entries: list[Entry], smoke_run: Callable[..., dict], jobs: int
) -> Iterator[tuple[Entry, dict]]:
    """Yield each config with its result of :func:`examine`, several at a time."""
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(examine, entry, smoke_run): entry for entry in entries}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
