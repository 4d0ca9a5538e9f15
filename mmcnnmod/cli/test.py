"""tools/test.py: evaluate a trained classifier, segmentor or detector."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.registry import HOOKS, METRICS, Registry

from ..checkpoints import safe_loading
from ..config_types import type_name
from ..errors import UserError
from ..files import atomic_write
from . import preflight
from .arguments import parse, test_parser
from .config import fit_to_devices, innermost_datasets, load_config, require_keys
from .errors import one_line_errors
from .run import build_runner, destroy_cpu_process_group, restart_on_cpu

NEEDED = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')
# The arguments of the toolboxes' visualization hooks for drawing, and for the output folder.
DRAW_SWITCHES = ('draw', 'enable')
DRAW_FOLDERS = ('out_dir', 'test_out_dir')
FLIPS = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
DET_META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip')


def main(argv: list[str] | None = None) -> None:
    """Test a checkpoint; ``argv`` defaults to the command line."""
    args = parse(test_parser(), argv)
    restart_on_cpu(args)
    with one_line_errors(args.debug, args.config), safe_loading(args.trust_checkpoint):
        test(args)
        destroy_cpu_process_group()


def test(args: argparse.Namespace) -> None:
    """Change the config, check it, test, and write what ``--out`` asks for."""
    notes = []
    cfg = testing_config(args, notes.append)
    check(cfg, args)
    runner = build_runner(cfg, args.config, 'test_loop')
    for note in notes:
        runner.logger.warning(note)
    runner.register_hook(preflight.CheckpointHook(args.checkpoint, complete=True))
    if args.out and args.out_item != 'metrics' and not writes_itself(cfg):
        runner.test_evaluator.metrics.append(dump_class(cfg)(out_file_path=args.out))
    metrics = runner.test()
    if args.out_item == 'metrics' and is_main_process():
        with atomic_write(args.out) as partial:
            mmengine.dump(metrics, str(partial))


def testing_config(args: argparse.Namespace, log: Callable[[str], None]) -> Config:
    """Read and change the config; ``log`` gets a line if SyncBN is replaced."""
    cfg = load_config(args)
    require_keys(cfg, args.config, 'testing', *NEEDED)
    apply_options(cfg, args)
    fit_to_devices(cfg, log)
    return under_another_name(cfg)


def under_another_name(cfg: Config) -> Config:
    """The config, renamed so that mmengine does not overwrite that of the training."""
    path = Path(cfg.filename)
    name = str(path.with_name(f'test_{path.name}'))
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename=name)


def check(cfg: Config, args: argparse.Namespace) -> None:
    """Raise the errors that can be found before a model is built."""
    if args.out_item and not args.out:
        raise UserError('--out-item needs --out FILE')
    as_pickle = args.out and args.out_item != 'metrics' and not writes_itself(cfg)
    if as_pickle and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: predictions are saved as .pkl')
    preflight.check_device(cfg, args.device)
    preflight.check_work_dir(cfg)
    preflight.check_readable(args.checkpoint)
    preflight.check_data(cfg, ('test_dataloader',))


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the options that are only for testing."""
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
    """The arguments of a config node's class and its base classes."""
    with registry.switch_scope_and_registry(cfg.default_scope) as scoped:
        cls = scoped.get(node['type'])
    bases = cls.__mro__ if inspect.isclass(cls) else ()
    return [name for base in bases for name in inspect.signature(base.__init__).parameters]


def writes_itself(cfg: Config) -> bool:
    """Whether the metric itself saves predictions, as mmseg's does in a folder of label maps."""
    metric = cfg.get('test_evaluator')
    return isinstance(metric, dict) and 'output_dir' in arguments(METRICS, metric, cfg)


def augment(cfg: Config) -> None:
    """Test-time augmentation by the config's ``tta_model``, or by flipping."""
    datasets = list(innermost_datasets(cfg.test_dataloader))
    if 'tta_model' not in cfg:
        if cfg.default_scope not in ('mmpretrain', 'mmdet'):
            raise UserError('--tta: the config has no tta_model and tta_pipeline; add them')
        cfg.tta_model = default_tta_model(cfg.default_scope)
    if 'tta_pipeline' not in cfg:
        *steps, pack = deepcopy(datasets[0].pipeline)
        if cfg.default_scope == 'mmdet':
            pack = dict(type='PackDetInputs', meta_keys=(*DET_META, 'flip_direction'))
        cfg.tta_pipeline = [*steps, dict(type='TestTimeAug', transforms=[FLIPS, [pack]])]
    for dataset in datasets:
        dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def default_tta_model(scope: str) -> dict:
    """The model that merges flipped predictions in mmpretrain and mmdetection."""
    if scope == 'mmpretrain':
        return dict(type='AverageClsScoreTTA')
    nms = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    return dict(type='DetTTAModel', tta_cfg=nms)


def dump_class(cfg: Config) -> type[DumpResults]:
    """The metric that saves predictions in a pickle file."""
    if cfg.default_scope == 'mmdet':
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults
    return DumpResults


if __name__ == '__main__':
    main()
