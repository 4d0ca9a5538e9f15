"""tools/train.py: train a classifier, segmentor or detector."""

from __future__ import annotations

import argparse
import re

from mmengine.config import Config, ConfigDict

from ..checkpoints import (
    has_mod_blocks,
    leading_prefix,
    networks_in,
    raw_weights_of,
    read_checkpoint,
)
from ..config_types import type_name
from ..engine.safe_checkpoint_hook import ONE_FILE
from ..errors import UserError, shown
from ..swap import takes_warm_start
from . import preflight
from .arguments import parse, train_parser
from .config import fit_to_devices, load_config, print_once, require_keys
from .resuming import checkpoint_to_resume
from .run import build_runner, run_in, run_safely

NEEDED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
BACKBONE = re.compile(r'(.*?\.)?backbone\.')


def main(argv: list[str] | None = None) -> None:
    """Train a config; ``argv`` defaults to the command line."""
    run_safely(train, parse(train_parser(), argv))


def train(args: argparse.Namespace) -> None:
    """Read the config, check it, and train."""
    cfg = training_config(args)
    note = fit_to_devices(cfg)
    preflight.check(cfg, args.device, ('train_dataloader', 'val_dataloader'), training=True)
    runner = build_runner(cfg, args.config, 'train_loop', 'val_loop', note=note)
    if start := cfg.get('load_from'):
        resume = cfg.get('resume', False)
        runner.register_hook(preflight.CheckpointHook(start, complete=resume, resume=resume))
    with run_in(cfg.work_dir, runner):
        runner.train()


def training_config(args: argparse.Namespace) -> Config:
    """Read the config and apply all options of tools/train.py."""
    cfg = load_config(args)
    require_keys(cfg, args.config, 'training', *NEEDED)
    apply_options(cfg, args)
    return cfg


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the options that only tools/train.py has, and add the hooks for interruptions."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_mixed_precision(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    if args.resume == 'auto' or (cfg.get('resume') and not cfg.get('load_from')):
        found = checkpoint_to_resume(cfg, print_once)
        # Without a checkpoint, training starts as the config says.
        cfg.resume, cfg.load_from = found is not None, found or cfg.get('load_from')
    elif args.resume:
        cfg.resume, cfg.load_from = True, args.resume
    if args.pretrained:
        start_backbone_from(cfg, args.pretrained)
    add_safety_hooks(cfg)


def add_safety_hooks(cfg: Config) -> None:
    """Add the hooks that keep the progress when training is interrupted."""
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    # mmengine's default.
    checkpoint = hooks.setdefault('checkpoint', ConfigDict(type='CheckpointHook', interval=1))
    if not isinstance(checkpoint, (dict, type(None))):
        raise UserError(f'default_hooks.checkpoint must be a dict, got {shown(checkpoint)}')
    added = ['FiniteLossHook']
    if checkpoint and type_name(checkpoint) == 'CheckpointHook':
        checkpoint.type = 'SafeCheckpointHook'
    strategy = type_name(cfg.get('strategy') or {})
    if checkpoint and type_name(checkpoint) == 'SafeCheckpointHook' and strategy in ('', *ONE_FILE):
        added.append('TerminationHook')
    custom = cfg.get('custom_hooks') or []
    existing = {type_name(hook) for hook in custom if isinstance(hook, dict)}
    cfg.custom_hooks = [*custom, *(dict(type=name) for name in added if name not in existing)]


def use_mixed_precision(cfg: Config) -> None:
    """Use the optimizer wrapper for automatic mixed precision."""
    kind = type_name(cfg.optim_wrapper) or 'OptimWrapper'
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f'--amp works with OptimWrapper, but this config has {kind}')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def start_backbone_from(cfg: Config, checkpoint: str) -> None:
    """Initialise the backbone from a checkpoint of a backbone or of a whole model."""
    if 'backbone' not in cfg.model:
        raise UserError('--pretrained is for model.backbone, which this config does not have')
    # With the 'module.' of a wrapper, which belongs to the prefix of a dense backbone's init_cfg.
    names = list(raw_weights_of(read_checkpoint(checkpoint), checkpoint))
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
    if takes_warm_start(cfg, 'model.backbone') and not has_mod_blocks(names):
        init_cfg['type'] = 'DensePretrained'
    elif prefix := backbone_prefix(names, checkpoint):
        init_cfg['prefix'] = prefix
    cfg.model.pop('pretrained', None)
    cfg.model.backbone.pop('pretrained', None)
    cfg.model.backbone.init_cfg = init_cfg


def backbone_prefix(names: list[str], checkpoint: str) -> str:
    """The prefix of the backbone's keys in a checkpoint."""
    backbones = sorted({m[0] for m in map(BACKBONE.match, names) if m})
    found = [prefix for _, prefix in networks_in(names)]
    if backbones:  # the keys of a head may look like those of a VGG
        found = [prefix for prefix in found if prefix.startswith(tuple(backbones))] or backbones
    chosen = leading_prefix(found) if found else ''
    if chosen is None:
        raise UserError(
            f'--pretrained {checkpoint}: it contains {len(found)} backbones; choose one by '
            "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=..., prefix=...) in the "
            f'config, of {", ".join(map(repr, found))}'
        )
    return chosen


if __name__ == '__main__':
    main()
