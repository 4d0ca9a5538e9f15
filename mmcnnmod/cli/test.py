"""tools/test.py: score a trained classifier, segmentor or detector."""

from __future__ import annotations

import argparse
import inspect
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.dist import master_only
from mmengine.evaluator import DumpResults
from mmengine.registry import HOOKS, METRICS, Registry
from mmengine.runner import Runner

from ..checkpoints import atomic_write, safe_loading
from ..config_types import type_name
from ..errors import UserError
from . import preflight
from .arguments import parse, test_parser
from .config import load_config, require_keys
from .errors import one_line_errors
from .run import build_runner, destroy_cpu_process_group, restart_on_cpu

NEEDED = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')
# How the toolboxes' visualization hooks are told to draw, and where.
DRAW_SWITCHES = ('draw', 'enable')
DRAW_FOLDERS = ('out_dir', 'test_out_dir')
FLIPS = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
DET_META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip')


def main(argv: list[str] | None = None) -> None:
    """Test as the command line says.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
    args = parse(test_parser(), argv)
    restart_on_cpu(args)
    with one_line_errors(args.debug, args.config), safe_loading(args.trust_checkpoint):
        cfg = load_config(args)
        require_keys(cfg, args.config, 'testing', *NEEDED)
        apply_options(cfg, args)
        check(cfg, args)
        runner = build_runner(under_another_name(cfg), args.config, 'test_loop')
        runner.register_hook(preflight.CheckpointHook(args.checkpoint, complete=True))
        save_predictions(runner, cfg, args)
        metrics = runner.test()
        if args.out_item == 'metrics':
            save_metrics(metrics, args.out)
        destroy_cpu_process_group()


def under_another_name(cfg: Config) -> Config:
    """The config, so that mmengine does not write it over the one that training has left."""
    path = Path(cfg.filename)
    name = str(path.with_name(f'test_{path.name}'))
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename=name)


def check(cfg: Config, args: argparse.Namespace) -> None:
    """Everything that can be known to go wrong before a model is built."""
    if args.out_item and not args.out:
        raise UserError('--out-item says what --out saves: give --out FILE as well')
    as_pickle = args.out and args.out_item != 'metrics' and not writes_itself(cfg)
    if as_pickle and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: predictions are saved as .pkl')
    preflight.check_device(cfg, args.device)
    preflight.check_work_dir(cfg)
    preflight.check_readable(args.checkpoint)
    preflight.check_data(cfg, ('test_dataloader',))


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the options that only testing has."""
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
    if args.out and args.out_item != 'metrics' and writes_itself(cfg):
        cfg.test_evaluator.update(output_dir=args.out, keep_results=True)


def draw_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Switch the toolbox's visualization hook on."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError('--show needs a visualization hook in the default_hooks of the config')
    options = arguments(HOOKS, hook, cfg)
    hook.update({name: True for name in DRAW_SWITCHES if name in options})
    hook.interval = args.interval
    if args.show:
        hook.update(show=True, wait_time=args.wait_time)
    folders = [name for name in DRAW_FOLDERS if name in options]
    if args.show_dir and folders:
        hook[folders[0]] = args.show_dir
    elif args.show_dir:
        cfg.visualizer.save_dir = args.show_dir


def arguments(registry: Registry, node: ConfigDict, cfg: Config) -> list[str]:
    """What the class of a config's node takes, its bases' arguments included."""
    with registry.switch_scope_and_registry(cfg.default_scope) as scoped:
        cls = scoped.get(node['type'])
    bases = cls.__mro__ if inspect.isclass(cls) else ()
    return [name for base in bases for name in inspect.signature(base.__init__).parameters]


def writes_itself(cfg: Config) -> bool:
    """Whether the metric writes predictions, as mmseg's does, into a folder of label maps."""
    metric = cfg.get('test_evaluator')
    return isinstance(metric, dict) and 'output_dir' in arguments(METRICS, metric, cfg)


def augment(cfg: Config) -> None:
    """Test-time augmentation by the config's ``tta_model``, or by flipping."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if 'tta_model' not in cfg:
        if cfg.default_scope not in ('mmpretrain', 'mmdet'):
            raise UserError('--tta: the config has no tta_model and tta_pipeline; add them')
        cfg.tta_model = default_tta_model(cfg.default_scope)
    if 'tta_pipeline' not in cfg:
        *steps, pack = deepcopy(dataset.pipeline)
        if cfg.default_scope == 'mmdet':
            pack = dict(type='PackDetInputs', meta_keys=(*DET_META, 'flip_direction'))
        cfg.tta_pipeline = [*steps, dict(type='TestTimeAug', transforms=[FLIPS, [pack]])]
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def default_tta_model(scope: str) -> dict:
    """What mmpretrain and mmdetection merge flipped predictions with."""
    if scope == 'mmpretrain':
        return dict(type='AverageClsScoreTTA')
    nms = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    return dict(type='DetTTAModel', tta_cfg=nms)


def save_predictions(runner: Runner, cfg: Config, args: argparse.Namespace) -> None:
    """Let the evaluator save predictions, unless the metric does so itself."""
    if not args.out or args.out_item == 'metrics' or writes_itself(cfg):
        return
    if cfg.default_scope == 'mmdet':
        from mmdet.evaluation import DumpDetResults as Dump
    else:
        Dump = DumpResults
    runner.test_evaluator.metrics.append(Dump(out_file_path=args.out))


@master_only
def save_metrics(metrics: dict, out: str) -> None:
    """Write the scores; a file that is there is a whole one."""
    with atomic_write(out) as partial:
        mmengine.dump(metrics, str(partial))


if __name__ == '__main__':
    main()
