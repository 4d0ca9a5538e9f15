"""tools/model_converters/dense_to_mod.py: turn dense weights into an MoD checkpoint."""

from __future__ import annotations

import argparse
import copy
from itertools import islice
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from rich.progress import track
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoints import (
    MAPPINGS,
    NEAR_IDENTITY,
    mod_backbones,
    read_checkpoint,
    start_model_from_dense,
    weights_of,
)
from ..config_types import PRETRAINED, type_name
from ..engine.reestimate_norms_hook import BATCHES, reestimate_norms
from ..errors import UserError
from ..files import atomic_write, check_out
from ..swap import iter_dicts
from . import preflight
from .arguments import add_cfg_options, add_shared, config_parser
from .config import load_config, require_keys
from .errors import building_from, one_line_errors
from .model import build_model

INITIALIZERS = (*PRETRAINED, 'DensePretrained')  # those that load a checkpoint


def main(argv: list[str] | None = None) -> None:
    """Convert a checkpoint; ``argv`` defaults to the command line."""
    args = dense_to_mod_parser().parse_args(argv)
    with one_line_errors(args.debug, args.config):
        check_out(args.out)
        content = read_checkpoint(args.checkpoint, trusted=args.trust_checkpoint)
        weights = weights_of(content, args.checkpoint)
        cfg = load_config(args)
        saved = copy.deepcopy(cfg)
        for name in ('work_dir', 'launcher'):  # load_config has set them
            saved.pop(name)
        meta = dict(cfg=saved.pretty_text, started_from=Path(args.checkpoint).name)
        # It contains the names of the classes, which mmseg and mmdet show.
        if 'dataset_meta' in (dense_meta := content.get('meta') or {}):
            meta['dataset_meta'] = dense_meta['dataset_meta']
        remove_initializers(cfg)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = build_initialized(cfg, args)
            try:
                lines = start_model_from_dense(
                    model, weights, args.prefix, mapping=args.mapping, strength=args.strength
                )
            except UserError as problem:
                raise UserError(f'checkpoint {args.checkpoint}: {problem}') from problem
            if args.calibrate:
                lines.append(calibrate(model, cfg, args))
        with atomic_write(args.out) as partial:
            torch.save(dict(state_dict=model.state_dict(), meta=meta), partial)
    print('\n'.join([*lines, args.out]))


def dense_to_mod_parser() -> argparse.ArgumentParser:
    """The parser of tools/model_converters/dense_to_mod.py."""
    parser = config_parser(
        'Turn dense weights into a checkpoint of an MoD model. The standard blocks of the backbone '
        'and all other parts of the model get the weights; the MoD blocks start near the identity. '
        'CONFIG is the config of the MoD model, or of the dense model with --mod. CHECKPOINT is of '
        'a dense backbone of the same family, or of a whole model with one.'
    )
    parser.add_argument('out', help='the checkpoint of the whole MoD model to write')
    parser.add_argument(
        '--prefix',
        help="prefix of the dense backbone's keys; detected by default if there is only one",
    )
    parser.add_argument(
        '--mapping',
        choices=list(MAPPINGS),
        default='first',
        help='which dense block each standard block starts from (docs/warm_start.md)',
    )
    parser.add_argument(
        '--strength',
        type=float,
        default=NEAR_IDENTITY,
        help='initial strength of the MoD blocks (docs/warm_start.md)',
    )
    parser.add_argument(
        '--calibrate',
        type=int,
        metavar='N',
        default=BATCHES,
        help="estimate the statistics of the backbone's batch norms from N batches of the config's "
        f'training data; default: {BATCHES}. 0 keeps those of the dense network, which do not fit',
    )
    add_shared(parser, '--data-root')
    parser.add_argument('--seed', type=int, default=0, help='seed for initialising the MoD blocks')
    add_cfg_options(parser)
    parser.set_defaults(no_pin_memory=True, no_persistent_workers=True)
    return parser


def build_initialized(cfg: Config, args: argparse.Namespace) -> nn.Module:
    """Build and initialise a config's model."""
    torch.manual_seed(args.seed)
    # By default mmengine logs the initialisation of every parameter.
    MMLogger.get_instance('mmengine', log_level='WARNING')
    model = build_model(cfg, args.config)
    with building_from(f'config {args.config}', cfg):
        model.init_weights()
    return model


def calibrate(model: nn.Module, cfg: Config, args: argparse.Namespace) -> str:
    """Estimate the statistics of the backbone's batch norms from training data.

    Returns:
        str: A summary.
    """
    backbones = mod_backbones(model).values()
    if not any(isinstance(part, _BatchNorm) for network in backbones for part in network.modules()):
        return 'the backbone has no batch norms, so there are no statistics to estimate'
    try:
        require_keys(cfg, args.config, "estimating the norms' statistics", 'train_dataloader')
        preflight.check_data(cfg, ('train_dataloader',))
    except UserError as problem:
        raise UserError(
            f"{problem}; --calibrate 0 needs no data, but then the norms' statistics do not fit"
        ) from problem
    with building_from(f'config {args.config}', cfg):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=args.seed)
    batches = islice(loader, args.calibrate)
    done = reestimate_norms(model, track(batches, 'Calibrating', args.calibrate))
    return f'statistics estimated from {args.calibrate} batches: {done}'


def remove_initializers(cfg: Config) -> None:
    """Remove the settings of the model that load checkpoints."""
    for _, node, _ in iter_dicts(cfg.get('model'), 'model'):
        if node.get('pretrained'):
            node['pretrained'] = None
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, dict) and type_name(init_cfg) in INITIALIZERS:
            del node['init_cfg']
        elif isinstance(init_cfg, (list, tuple)):
            node['init_cfg'] = [each for each in init_cfg if type_name(each) not in INITIALIZERS]
