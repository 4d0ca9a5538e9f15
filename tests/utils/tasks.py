"""A small task for each toolbox: generated data, and options that make a config small."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Task(NamedTuple):
    """How to train one config of a toolbox for two iterations, which takes seconds."""

    config: str
    data: str  # the folder of the fixture data
    options: list[str]  # --cfg-options that make the model and the images small
    checkpoint: str  # its name
    metric: str  # the end of the score's name


COMMON = [
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
    'train_dataloader.batch_size=2',
    'default_hooks.logger.interval=1',
]
TASKS = {
    'mmseg': Task(
        'configs/fcn_r18-mod_street-scenes.py',
        'scenes',
        [
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
            'default_hooks.checkpoint.interval=2',
            'train_dataloader.dataset.pipeline.2.scale="(64,32)"',
            'train_dataloader.dataset.pipeline.3.crop_size="(32,64)"',
            'model.data_preprocessor.size="(32,64)"',
            'val_dataloader.dataset.pipeline.1.scale="(64,32)"',
            'test_dataloader.dataset.pipeline.1.scale="(64,32)"',
        ],
        'iter_2.pth',
        'mIoU',
    ),
    'mmdet': Task(
        'configs/faster-rcnn_r50-mod_fpn_voc0712.py',
        'voc',
        [
            'model.backbone.depth=18',
            'model.neck.in_channels=64,128,256,512',
            'model.neck.out_channels=32',
            'model.rpn_head.in_channels=32',
            'model.rpn_head.feat_channels=32',
            'model.roi_head.bbox_roi_extractor.out_channels=32',
            'model.roi_head.bbox_head.in_channels=32',
            'model.roi_head.bbox_head.fc_out_channels=64',
            'model.train_cfg.rpn_proposal.max_per_img=50',
            'model.test_cfg.rpn.max_per_img=50',
            'train_cfg.max_epochs=1',
            'train_dataloader.dataset.times=1',
            *(
                f'train_dataloader.dataset.dataset.datasets.{i}.{option}'
                for i in (0, 1)
                for option in (
                    'filter_cfg.min_size=1',
                    'filter_cfg.bbox_min_size=1',
                    'pipeline.2.scale="(128,96)"',
                )
            ),
            'val_dataloader.dataset.pipeline.1.scale="(128,96)"',
            'test_dataloader.dataset.pipeline.1.scale="(128,96)"',
        ],
        'epoch_1.pth',
        'mAP',
    ),
    'mmpretrain': Task(
        'configs/resnet18-mod_in1k.py',
        'imagenet',
        [
            'train_cfg.max_epochs=1',
            'train_dataloader.dataset.pipeline.1.scale=32',
            'test_dataloader.dataset.pipeline.1.scale=36',
            'test_dataloader.dataset.pipeline.2.crop_size=32',
            'val_dataloader.dataset.pipeline.1.scale=36',
            'val_dataloader.dataset.pipeline.2.crop_size=32',
        ],
        'epoch_1.pth',
        'accuracy/top1',
    ),
}


def shrink(toolbox):
    """The --cfg-options that make a toolbox's task small."""
    return [*COMMON, *TASKS[toolbox].options]


def arguments(toolbox, data, *options, config=None):
    """The arguments of tools/train.py for a toolbox's task, but for the --cfg-options."""
    task = TASKS[toolbox]
    parts = (config or ROOT / task.config, '--data-root', data / task.data, '--work-dir', 'out')
    return [str(part) for part in (*parts, *options)]


def run_main(program, *arguments):
    """Run a module of mmcnnmod.cli in this process, with the arguments of a command line."""
    program.main([str(argument) for argument in arguments])


def tail(result):
    """The end of a program's output, for a failed assertion."""
    return f'{result.stdout[-3000:]}\n{result.stderr[-3000:]}'


def newest_json(work_dir):
    """The newest JSON file of a work dir: the scores of its last run."""
    return json.loads(max(work_dir.glob('*/*.json'), key=lambda p: p.stat().st_mtime).read_text())


@pytest.fixture(scope='session')
def data(run_python, tmp_path_factory):
    """Folder with 'scenes', 'voc' and 'imagenet', each with four images to train on."""
    folder = tmp_path_factory.mktemp('data')
    tool = ROOT / 'tools' / 'dataset_tools' / 'generate_data.py'
    for kind, name, *options in (
        ('cityscapes', 'scenes', '--size', '64x32', '--train', '4', '--val', '2'),
        ('voc', 'voc', '--size', '160x120', '--train', '2', '--val', '2'),
        ('imagenet', 'imagenet', '--size', '64x64', '--train', '4', '--val', '2', '--classes', '2'),
    ):
        result = run_python(tool, kind, folder / name, *options, cwd=folder)
        assert result.returncode == 0, tail(result)
    return folder


@pytest.fixture(scope='session')
def trained(data, run_python, tmp_path_factory):
    """Train a toolbox's task for two iterations, once; gives the work dir and the result."""

    @cache
    def train(toolbox):
        folder = tmp_path_factory.mktemp(toolbox)
        result = run_python(
            ROOT / 'tools/train.py', *arguments(toolbox, data),
            '--cfg-options', *shrink(toolbox), cwd=folder,
        )  # fmt: skip
        return folder / 'out', result

    return train
