"""The configs of the runs of a plan."""

from __future__ import annotations

import copy
import hashlib
import json
from argparse import Namespace
from inspect import signature
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from plan import CHECKPOINT, Run
from subprocess_runner import RunFailed

from mmcnnmod.cli import train
from mmcnnmod.cli.arguments import train_parser
from mmcnnmod.cli.config import LOADERS, load_config, map_tree, require_keys
from mmcnnmod.cli.resuming import checkpoints
from mmcnnmod.errors import UserError
from mmcnnmod.files import atomic_write

# Names that have changed since the first results. The hash uses the old names, so that it stays the
# same for these results.
HASHED_AS = {
    'InMemoryDataset': 'ResidentDataset',
    'InMemoryDataPreprocessor': 'ResidentDataPreprocessor',
    'RuntimeStatsHook': 'RunFactsHook',
    'runtime_stats': 'run_facts',
    'work_dirs/experiments/images': 'work_dirs/evidence/images',
    'data/experiments-smoke/': 'data/evidence-smoke/',
}


def config_of(run: Run, options: Namespace | None = None) -> Config:
    """The config of a run's arm with the options of tools/train.py.

    It does not include the seed, the checkpoint of the needed run and --data-root. Errors name the
    plan and the arm.
    """
    options = vars(options or train_parser().parse_args(['']))
    gpus, tta = options.get('gpus'), options.get('tta', False)
    overrides = {**run.arm.overrides, **(options['cfg_options'] or {})}
    launcher = 'pytorch' if gpus else 'none'
    arm_options = dict(config=str(run.arm.config), cfg_options=overrides, launcher=launcher)
    args = Namespace(**{**options, **arm_options, 'data_root': None, 'resume': None})
    try:
        cfg = load_config(args)
        require_keys(cfg, args.config, 'training', *train.NEEDED)
        if args.amp or args.auto_scale_lr or args.no_validate or args.pretrained:
            train.apply_options(cfg, args)
        # A misspelt override would have no effect and give no warning.
        keys = set(Config.fromfile(run.arm.config))
        for name in run.arm.overrides:
            if name.split('.')[0] not in {*keys, *signature(Runner).parameters}:
                raise UserError(
                    f'the config has no key for the override {name}; it has '
                    f'{", ".join(sorted(keys))}'
                )
    except UserError as problem:
        raise UserError(f'plan {run.plan.name}, arm {run.arm.name}: {problem}') from None
    cfg.setdefault('default_hooks', {})['runtime_stats'] = dict(type='RuntimeStatsHook')
    if run.plan.test:
        # These options do not affect the training, but the score depends on them.
        cfg.tested_with = dict(gpus=gpus, tta=tta)
    cfg.pop('work_dir')
    return cfg


def hash_of(cfg: Config) -> str:
    """A short hash of a config's settings, which is the same on all machines."""
    settings = copy.deepcopy(cfg.to_dict())
    for name in LOADERS:
        if settings.get(name):
            settings[name].pop('pin_memory', None)  # depends on whether there is a GPU
    text = json.dumps(settings, sort_keys=True, default=str)
    for name, old in HASHED_AS.items():
        text = text.replace(f'"{name}"', f'"{old}"')
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def freeze(cfg: Config, run: Run, source: Path | None, folder: Path) -> Path:
    """Write the config of a run beside its work dir, because mmengine writes its own into it.

    ``source`` is the work dir of the run whose checkpoint it needs. Raises RunFailed if ``folder``
    has checkpoints of other settings, or ``source`` has none.
    """
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict({'randomness.seed': run.seed})
    if source is not None:
        found = checkpoints(source)
        if not found:
            raise RunFailed(
                f'{source} no longer has a checkpoint; remove the run from the results to train it '
                'again'
            )
        path = str(found[0])

        def fill_in(node):
            return node.replace(CHECKPOINT, path) if isinstance(node, str) else node

        cfg = Config(map_tree(cfg._cfg_dict, fill_in))
    text, frozen = cfg.pretty_text, folder.with_name(f'{folder.name}.py')
    if checkpoints(folder) and frozen.exists() and frozen.read_text() != text:
        raise RunFailed(f'{folder} was started with other settings; choose another --work-dir')
    with atomic_write(frozen) as partial:
        partial.write_text(text)
    return frozen
