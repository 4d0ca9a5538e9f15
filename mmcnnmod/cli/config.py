"""Reading a config, and the changes to it that several programs make."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from ..config_types import name_types, type_name
from ..errors import UserError, cause, shown
from ..swap import add_custom_import, iter_dicts, scope_of, swap_with
from ..toolboxes import require
from .errors import building_from

SYNC_BN = ('SyncBN', 'MMSyncBN', 'SyncBatchNorm')
# Settings of the configs before mmengine.
OLD_KEYS = ('data', 'optimizer', 'optimizer_config', 'lr_config', 'runner', 'total_epochs')
MIGRATION = 'https://mmdetection.readthedocs.io/en/latest/migration/config_migration.html'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# The types of the settings that are read before anything is built.
# fmt: off
SETTING_TYPES = {
    (dict,): (
        *LOADERS, 'model', 'data_preprocessor', 'custom_imports', 'env_cfg', 'train_cfg',
        'test_cfg', 'optim_wrapper', 'default_hooks', 'strategy', 'auto_scale_lr',
    ),
    (list, tuple): ('custom_hooks',),
    (str,): ('default_scope', 'data_root', 'load_from', 'work_dir'),
}
# fmt: on


def config_folder() -> Path:
    """The folder of the project's configs, in a checkout or in the installed package."""
    package = Path(__file__).parents[1]
    installed = package / '.mim' / 'configs'
    return installed if installed.is_dir() else package.parent / 'configs'


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the options that all programs share.

    Args:
        args (argparse.Namespace): Parsed options, see :mod:`mmcnnmod.cli.arguments`.

    Returns:
        Config: With ``work_dir``, ``launcher`` and ``default_scope`` set.

    Raises:
        UserError: If the config cannot be read or its toolbox is not installed.
    """
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'./work_dirs/{Path(args.config).stem}'
    add_custom_import(cfg)
    if args.mod is not None:
        with building_from(f'config {args.config}'):
            swap_with(cfg, args.mod, log=print_once)
    if args.data_root:
        set_data_root(cfg, args.data_root)
    set_loader_defaults(cfg, args)
    return cfg


def print_once(line: str) -> None:
    """Print a line, but only in the first of the processes that a launcher started."""
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
        print(line)


def read_config(path: str, options: dict | None = None) -> Config:
    """Read a config of an installed toolbox and apply ``--cfg-options``.

    Raises:
        UserError: If the config cannot be read or its toolbox is not installed.
    """
    if not Path(path).is_file():
        raise UserError(f'config {path} does not exist')
    with building_from(f'config {path}'):
        cfg = parse_config(path, options)
    old = [key for key in OLD_KEYS if key in cfg]
    if 'data' in old and not any(cfg.get(name) for name in LOADERS):
        raise UserError(
            f'config {path} has the layout of mmdetection 2.x, mmsegmentation 0.x or mmcls '
            f'({", ".join(old)}); migrate it, see {MIGRATION}'
        )
    if cfg.get('default_scope') is None:
        raise UserError(f'config {path} has no default_scope; set mmpretrain, mmseg or mmdet')
    require(cfg.default_scope)
    return cfg


def parse_config(path: str | Path, options: dict | None = None) -> Config:
    """Read a config, apply ``--cfg-options`` and check the types of the settings.

    In a new-style config, names replace the classes, and ``default_scope`` is set. It can then be
    changed and dumped like any other config.
    """
    cfg = Config.fromfile(path)
    try:
        cfg.merge_from_dict(options or {})
    except Exception as problem:  # mmengine's message does not name the key
        keys = ', '.join(options)
        raise UserError(f'--cfg-options {shown(keys)}: {cause(problem)}') from problem
    for types, keys in SETTING_TYPES.items():
        for key in keys:
            if cfg.get(key) is not None and not isinstance(cfg[key], types):
                raise UserError(f'{key} must be a {types[0].__name__}, got {shown(cfg[key])}')
    name_types(cfg)
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    if scope := scope_of(cfg):
        cfg.default_scope = scope
    return cfg


def require_keys(cfg: Config, path: str, purpose: str, *keys: str) -> None:
    """Raise a :class:`UserError` if a config lacks a setting."""
    for key in keys:
        if cfg.get(key) is None:
            raise UserError(f'config {path} has no {key}, which {purpose} needs')


def innermost_datasets(node) -> Iterator[dict]:
    """The data sets in a loader's config, without wrappers (RepeatDataset, ConcatDataset)."""
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from innermost_datasets(item)
    elif isinstance(node, dict):
        if 'dataset' in node or 'datasets' in node:
            yield from innermost_datasets(node.get('dataset'))
            yield from innermost_datasets(node.get('datasets'))
        else:
            yield node


def set_data_root(cfg: Config, root: str) -> None:
    """Replace the config's ``data_root`` by ``root``, in data loaders and evaluators as well.

    Args:
        cfg (Config): Changed in place.
        root (str): The folder of the data set.

    Raises:
        UserError: If the config has no ``data_root``, or several.
    """
    loaders = {name: cfg.get(name) for name in LOADERS}
    values = [node.get('data_root') for _, node, _ in iter_dicts(loaders, '')]
    roots = {value.rstrip('/') for value in values if value and isinstance(value, str)}
    if len(roots) != 1 and not cfg.get('data_root'):
        named = ', '.join(sorted(roots)) or 'none'
        raise UserError(
            f'--data-root replaces one root, but this config has {named}; use --cfg-options'
        )
    old = (cfg.get('data_root') or roots.pop()).rstrip('/')
    new = f'{root.rstrip("/")}/'

    def replace(node):
        if isinstance(node, str) and f'{node}/'.startswith(f'{old}/'):
            return new + node[len(old) :].lstrip('/')
        return node

    for name in (*LOADERS, 'val_evaluator', 'test_evaluator'):
        if cfg.get(name) is not None:
            cfg[name] = map_tree(cfg[name], replace)
    cfg.data_root = new


def set_loader_defaults(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the options for data loaders; add the defaults that mmpretrain's own tools add."""
    for name in LOADERS:
        if cfg.get(name) is None:
            continue
        if cfg.default_scope == 'mmpretrain':
            defaults = dict(
                pin_memory=torch.cuda.is_available(),
                persistent_workers=True,
                collate_fn=dict(type='default_collate'),
            )
            cfg[name] = ConfigDict({**defaults, **cfg[name]})
        if args.no_pin_memory:
            cfg[name].pin_memory = False
        # torch refuses persistent workers if there are no workers.
        if args.no_persistent_workers or not cfg[name].get('num_workers', 0):
            cfg[name].persistent_workers = False


def fit_to_devices(cfg: Config) -> str | None:
    """Make the last changes to a config: those for CPUs and for a single device.

    Args:
        cfg (Config): Changed in place.

    Returns:
        str | None: See :func:`revert_sync_bn`.
    """
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        wrapper = cfg.get('model_wrapper_cfg') or dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}  # mmengine would choose GPUs
        if type_name(cfg.get('strategy') or {}) == 'DDPStrategy':  # FlexibleRunner's
            cfg.strategy.setdefault('model_wrapper', cfg.model_wrapper_cfg)
    return revert_sync_bn(cfg)


def revert_sync_bn(cfg: Config) -> str | None:
    """Replace SyncBN by BN on one device and on CPUs, where it does not work.

    Args:
        cfg (Config): Changed in place.

    Returns:
        str | None: A line for the log; None if nothing is replaced.
    """
    if cfg.launcher != 'none' and torch.cuda.is_available():
        return None
    found = [node for _, node, _ in iter_dicts(cfg.model, 'model') if type_name(node) in SYNC_BN]
    if not found:
        return None
    for node in found:
        node['type'] = 'BN'
    why = 'there is only one device' if cfg.launcher == 'none' else 'it does not work on CPU'
    return f'SyncBN is replaced by BN in {len(found)} places of the config: {why}'


def map_tree(node, change: Callable):
    """Apply ``change`` to every node of nested dicts and lists, innermost first."""
    if isinstance(node, dict):
        node = ConfigDict({key: map_tree(value, change) for key, value in node.items()})
    elif isinstance(node, (list, tuple)):
        node = type(node)(map_tree(value, change) for value in node)
    changed = change(node)
    return ConfigDict(changed) if isinstance(changed, dict) else changed
