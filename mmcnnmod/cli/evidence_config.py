"""The configs that a plan's runs train."""

from __future__ import annotations

import copy
import hashlib
import json
from inspect import signature
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ..checkpoints import atomic_write
from ..errors import UserError
from ..evidence import Run
from ..evidence.plan import CHECKPOINT
from .arguments import train_parser
from .config import LOADERS, load_config, map_tree, set_data_root
from .programs import RunFailed
from .resuming import checkpoints

# What has another name since results were written. A hash is of the old names, so that those
# results still belong to their plans.
HASHED_AS = {
    'InMemoryDataset': 'ResidentDataset',
    'InMemoryDataPreprocessor': 'ResidentDataPreprocessor',
    'RuntimeStatsHook': 'RunFactsHook',
}


def config_of(run: Run) -> Config:
    """The config of a run's arm, with all its settings but seed, data's place and checkpoint.

    Raises:
        UserError: Names plan and arm.
    """
    args = train_parser().parse_args([str(run.arm.config)])
    args.cfg_options = dict(run.arm.overrides)
    try:
        cfg = load_config(args)
        before = Config.fromfile(run.arm.config)
    except UserError as problem:
        raise UserError(f'plan {run.plan.name}, arm {run.arm.name}: {problem}') from None
    # A misspelt setting would change nothing, and nobody would see it.
    known = {*before, *signature(Runner).parameters}
    for name in run.arm.overrides:
        if name.split('.')[0] not in known:
            raise UserError(
                f'plan {run.plan.name}, arm {run.arm.name}: the override {name} has no place in '
                f'the config, which has {", ".join(sorted(before))}'
            )
    cfg.setdefault('default_hooks', {})['run_facts'] = dict(type='RuntimeStatsHook')
    cfg.pop('work_dir')
    return cfg


def hash_of(cfg: Config) -> str:
    """A short fingerprint of a config's settings, the same on every machine."""
    settings = copy.deepcopy(cfg.to_dict())
    for name in LOADERS:
        if settings.get(name):
            settings[name].pop('pin_memory', None)  # which follows from whether there is a GPU
    text = json.dumps(settings, sort_keys=True, default=str)
    for name, old in HASHED_AS.items():
        text = text.replace(f'"{name}"', f'"{old}"')
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def last_step(cfg: Config) -> int | None:
    """The epoch or iteration after which training ends."""
    return cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters')


def with_data(cfg: Config, root: str | None) -> Config:
    """A copy whose data set lies elsewhere."""
    cfg = copy.deepcopy(cfg)
    if root:
        set_data_root(cfg, root)
    return cfg


def freeze(cfg: Config, run: Run, source: Path | None, folder: Path) -> Path:
    """Write the config that a run trains, beside its folder; refuse to go on with another one.

    Args:
        cfg (Config): Of the arm, with the data in its place.
        run (Run): The run.
        source (Path, optional): The folder of the run that it needs.
        folder (Path): Its own, into which mmengine writes a config of the same name.

    Returns:
        Path: The file.

    Raises:
        RunFailed: If the folder holds checkpoints of other settings, or the source has none.
    """
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict({'randomness.seed': run.seed})
    if source is not None:
        found = checkpoints(source)
        if not found:
            raise RunFailed(
                f'{source} has no checkpoint any more; take the run out of the results, so that '
                'it is trained again'
            )
        path = str(found[0])
        cfg = Config(map_tree(cfg._cfg_dict, lambda node: fill_in(node, path)))
    text, frozen = cfg.pretty_text, folder.with_name(f'{folder.name}.py')
    if checkpoints(folder) and frozen.exists() and frozen.read_text() != text:
        raise RunFailed(f'{folder} is half-trained with other settings; choose another --work-dir')
    with atomic_write(frozen) as partial:
        partial.write_text(text)
    return frozen


def fill_in(node, checkpoint: str):
    """Put the checkpoint into a text that names it."""
    return node.replace(CHECKPOINT, checkpoint) if isinstance(node, str) else node
