"""tools/test.py: evaluate a trained classifier, segmentor or detector."""

from __future__ import annotations

import argparse
import inspect
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.registry import HOOKS, METRICS, Registry

from ..config_types import type_name
from ..errors import UserError
from ..files import atomic_write
from . import preflight
from .arguments import parse, test_parser
from .config import fit_to_devices, innermost_datasets, load_config, require_keys
from .run import build_runner, run_safely

NEEDED = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')
# The names of some arguments of the toolboxes' visualization hooks.
DRAW_SWITCHES = ('draw', 'enable')
DRAW_FOLDERS = ('out_dir', 'test_out_dir')
# Test-time augmentation for configs without their own: the mean of an image and its mirror image.
FLIPS = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
MERGED_BOXES = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
TTA_MODELS = {
    'mmpretrain': dict(type='AverageClsScoreTTA'),
    'mmdet': dict(type='DetTTAModel', tta_cfg=MERGED_BOXES),
}
# fmt: off
DET_META = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction',
)
# fmt: on


def main(argv: list[str] | None = None) -> None:
    """Test a checkpoint; ``argv`` defaults to the command line."""
    run_safely(test, parse(test_parser(), argv))


def test(args: argparse.Namespace) -> None:
    """Read the config, check it, test, and write the file of ``--out``."""
    cfg = rename_config(testing_config(args))
    note = fit_to_devices(cfg)
    preflight.check(cfg, args.device, ('test_dataloader',))
    runner = build_runner(cfg, args.config, 'test_loop', note=note)
    runner.register_hook(preflight.CheckpointHook(args.checkpoint, complete=True))
    if saves_pickle(cfg, args):
        kind = 'mmdet.DumpDetResults' if cfg.default_scope == 'mmdet' else 'DumpResults'
        metric = METRICS.build(dict(type=kind, out_file_path=args.out))
        runner.test_evaluator.metrics.append(metric)
    metrics = runner.test()
    if args.out_item == 'metrics' and is_main_process():
        with atomic_write(args.out) as partial:
            mmengine.dump(metrics, str(partial))


def testing_config(args: argparse.Namespace) -> Config:
    """Read the config and apply all options of tools/test.py."""
    cfg = load_config(args)
    require_keys(cfg, args.config, 'testing', *NEEDED)
    if args.out_item and not args.out:
        raise UserError('--out-item needs --out FILE')
    if saves_pickle(cfg, args) and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: predictions are saved as .pkl')
    cfg.load_from = args.checkpoint
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir:
        draw_predictions(cfg, args)
    if args.tta:
        augment(cfg)
    hooks = cfg.get('custom_hooks') or []
    if args.deploy and 'DeployHook' not in map(type_name, hooks):
        cfg.custom_hooks = [*hooks, dict(type='DeployHook')]
    if args.out and args.out_item != 'metrics' and writes_predictions(cfg):
        cfg.test_evaluator.update(output_dir=args.out, keep_results=True)
    return cfg


def rename_config(cfg: Config) -> Config:
    """Rename a config, so that mmengine does not overwrite the one that training dumped."""
    path = Path(cfg.filename)
    name = str(path.with_name(f'test_{path.name}'))
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename=name)


def saves_pickle(cfg: Config, args: argparse.Namespace) -> bool:
    """Whether ``--out`` is a pickle file of the predictions."""
    return bool(args.out and args.out_item != 'metrics' and not writes_predictions(cfg))


def draw_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Turn on the toolbox's visualization hook."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError('--show needs a visualization hook in the default_hooks of the config')
    options = parameters(HOOKS, hook, cfg)
    hook.update({name: True for name in DRAW_SWITCHES if name in options})
    hook.interval = args.interval
    if args.show:
        hook.update(show=True, wait_time=args.wait_time)
    folders = [name for name in DRAW_FOLDERS if name in options]
    if args.show_dir and folders:
        hook[folders[0]] = args.show_dir
    elif args.show_dir:
        cfg.visualizer.save_dir = args.show_dir


def parameters(registry: Registry, node: ConfigDict, cfg: Config) -> list[str]:
    """The parameters of a config node's class and of its base classes."""
    with registry.switch_scope_and_registry(cfg.default_scope) as scoped:
        cls = scoped.get(node['type'])
    bases = cls.__mro__ if inspect.isclass(cls) else ()
    return [name for base in bases for name in inspect.signature(base.__init__).parameters]


def writes_predictions(cfg: Config) -> bool:
    """Whether the metric saves the predictions, as mmseg's does in a folder of label maps."""
    metric = cfg.test_evaluator
    return isinstance(metric, dict) and 'output_dir' in parameters(METRICS, metric, cfg)


def augment(cfg: Config) -> None:
    """Set up test-time augmentation by the config's ``tta_model``, or by flipping."""
    datasets = list(innermost_datasets(cfg.test_dataloader))
    if 'tta_model' not in cfg:
        if cfg.default_scope not in TTA_MODELS:
            raise UserError('--tta: the config has no tta_model and tta_pipeline; add them')
        cfg.tta_model = TTA_MODELS[cfg.default_scope]
    if 'tta_pipeline' not in cfg:
        *steps, pack = deepcopy(datasets[0].pipeline)
        if cfg.default_scope == 'mmdet':
            pack = dict(type='PackDetInputs', meta_keys=DET_META)
        cfg.tta_pipeline = [*steps, dict(type='TestTimeAug', transforms=[FLIPS, [pack]])]
    for dataset in datasets:
        dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


if __name__ == '__main__':
    main()
