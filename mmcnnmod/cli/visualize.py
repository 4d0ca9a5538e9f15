"""tools/visualize.py: draw the predictions of a classifier, segmentor or detector on pictures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from itertools import chain, count
from pathlib import Path

import mmcv
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, TRANSFORMS, VISUALIZERS, DefaultScope
from mmengine.structures import BaseDataElement
from PIL import Image
from rich.progress import track
from torch import nn

from ..backbones import switch_to_deploy
from ..checkpoints import safe_loading
from ..config_types import type_name
from ..datasets import CheckedLoading
from ..errors import UserError
from . import preflight
from .arguments import visualize_parser
from .config import innermost_datasets, load_config, require_keys
from .errors import building_from, one_line_errors
from .model import load_trained_model

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def main(argv: list[str] | None = None) -> None:
    """Predict and draw; ``argv`` defaults to the command line."""
    args = visualize_parser().parse_args(argv)
    with one_line_errors(args.debug, args.config), safe_loading(args.trust_checkpoint):
        pictures = find_pictures(args.pictures)
        cfg = load_config(args)
        require_keys(cfg, args.config, 'drawing', 'model', 'test_dataloader', 'visualizer')
        steps = read_from_files(cfg)
        preflight.check_device(cfg, args.device)
        preflight.check_work_dir(cfg)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            pipeline = build_pipeline(cfg, steps)
            model = load_trained_model(cfg, args)
            if args.deploy:
                switch_to_deploy(model)
            draw = make_drawer(cfg, dataset_meta(cfg, model), args.score_thr)
            for picture in track(pictures, 'Drawing'):
                out_file = unused_name(Path(cfg.work_dir), picture.stem)
                image = mmcv.imread(str(picture), channel_order='rgb')
                draw(image, predict(model, pipeline, picture), out_file=out_file)
                print(f'written: {out_file}')


def find_pictures(paths: list[str]) -> list[Path]:
    """The pictures in a list of files and folders, with their subfolders.

    Raises:
        UserError: If a file is missing or is not a picture, or a folder contains none.
    """
    found = []
    for path in map(Path, paths):
        inside = sorted(file for file in path.rglob('*') if file.suffix.lower() in SUFFIXES)
        if path.is_dir() and not inside:
            raise UserError(f'folder {path} contains no pictures ({", ".join(SUFFIXES)})')
        found += inside or [path]
    found = list(dict.fromkeys(found))  # a folder and its subfolder may both be in the list
    for path in found:
        try:
            Image.open(path).close()
        except OSError as problem:  # also for files that are not pictures
            raise UserError(f'{path} is missing or not a picture; use another file') from problem
    return found


def read_from_files(cfg: Config) -> list[dict]:
    """The steps of the test pipeline, for files without annotations.

    Args:
        cfg (Config): Its data preprocessor is changed if the data set consists of RGB arrays
            (CIFAR-10), because files are read as BGR.
    """
    dataset = next(innermost_datasets(cfg.test_dataloader))
    steps = [step for step in dataset['pipeline'] if 'Annotations' not in type_name(step)]
    if not any('LoadImage' in type_name(step) for step in steps):
        steps.insert(0, dict(type='LoadImageFromFile'))
        cfg.data_preprocessor.to_rgb = True
    return steps


def build_pipeline(cfg: Config, steps: list[dict]) -> Compose:
    """A pipeline of these steps, whose errors name a file that cannot be read."""
    with building_from(f'config {cfg.filename}'):
        first, *others = [TRANSFORMS.build(step) for step in steps]
    return Compose([CheckedLoading(first), *others])


def dataset_meta(cfg: Config, model: nn.Module) -> dict:
    """Names and colours of the classes, from the model's checkpoint or from the data set."""
    dataset = next(innermost_datasets(cfg.test_dataloader))
    with DATASETS.switch_scope_and_registry(None) as registry:
        defaults = getattr(registry.get(dataset['type']), 'METAINFO', {})
    return {**defaults, **(dataset.get('metainfo') or {}), **model.dataset_meta}


@torch.no_grad()
def predict(model: nn.Module, pipeline: Compose, picture: Path) -> BaseDataElement:
    """The prediction for a picture."""
    data = pipeline(dict(img_path=str(picture), img_id=0))
    return model.test_step(pseudo_collate([data]))[0].cpu()


def make_drawer(cfg: Config, meta: dict, score_thr: float) -> Callable:
    """A function (RGB image, prediction, out_file) that draws as the toolbox does."""
    visualizer = VISUALIZERS.build(dict(type=cfg.visualizer.type, name='visualize'))
    visualizer.dataset_meta = meta
    if cfg.default_scope == 'mmpretrain':
        # Small images are enlarged to have room for the text.
        return lambda image, prediction, out_file: visualizer.visualize_cls(
            image,
            prediction,
            meta.get('classes'),
            resize=max(224, *image.shape[:2]),
            out_file=out_file,
        )
    options = dict(draw_gt=False)
    if 'pred_score_thr' in inspect.signature(visualizer.add_datasample).parameters:
        options['pred_score_thr'] = score_thr
    return partial(visualizer.add_datasample, 'visualize', **options)


def unused_name(folder: Path, stem: str) -> str:
    """The path of a new file, with a number if the folder has a file of that name."""
    names = chain([f'{stem}.png'], (f'{stem}-{i}.png' for i in count(2)))
    return str(next(folder / name for name in names if not (folder / name).exists()))
