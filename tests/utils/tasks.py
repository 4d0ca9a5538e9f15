"""A small task for each toolbox: generated data, and the options that shrink a config to it."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# One config per toolbox, with what makes two iterations of it take seconds.
COMMON = [
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
    'train_dataloader.batch_size=2',
    'default_hooks.logger.interval=1',
]
TASKS = {
    'mmseg': (
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
    'mmdet': (
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
            'train_dataloader.dataset.dataset.datasets.0.filter_cfg.min_size=1',
            'train_dataloader.dataset.dataset.datasets.0.filter_cfg.bbox_min_size=1',
            'train_dataloader.dataset.dataset.datasets.1.filter_cfg.min_size=1',
            'train_dataloader.dataset.dataset.datasets.1.filter_cfg.bbox_min_size=1',
            'train_dataloader.dataset.dataset.datasets.0.pipeline.2.scale="(128,96)"',
            'train_dataloader.dataset.dataset.datasets.1.pipeline.2.scale="(128,96)"',
            'val_dataloader.dataset.pipeline.1.scale="(128,96)"',
            'test_dataloader.dataset.pipeline.1.scale="(128,96)"',
        ],
        'epoch_1.pth',
        'mAP',
    ),
    'mmpretrain': (
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


def shrink(scope):
    """The --cfg-options that make the scope's task small."""
    return [*COMMON, *TASKS[scope][2]]


def run_main(program, *arguments):
    """Run a module of mmcnnmod.cli in this process, with the arguments of a command line."""
    program.main([str(argument) for argument in arguments])


def tail(result):
    """The end of what a program printed, for a failed assertion."""
    return f'{result.stdout[-3000:]}\n{result.stderr[-3000:]}'


def newest_json(folder):
    return json.loads(max(folder.glob('*/*.json'), key=lambda p: p.stat().st_mtime).read_text())


@pytest.fixture(scope='session')
def data(run_python, tmp_path_factory):
    """Folder with 'scenes', 'voc' and 'imagenet', each with four images to train on."""
    folder = tmp_path_factory.mktemp('data')
    tool = ROOT / 'tools' / 'dataset_tools' / 'generate_data.py'
    for kind, name, size, more in (
        ('cityscapes', 'scenes', '64x32', ['--train', '4', '--val', '2']),
        ('voc', 'voc', '160x120', ['--train', '2', '--val', '2']),
        ('imagenet', 'imagenet', '64x64', ['--train', '4', '--val', '2', '--classes', '2']),
    ):
        result = run_python(tool, kind, folder / name, '--size', size, *more, cwd=folder)
        assert result.returncode == 0, tail(result)
    return folder


@pytest.fixture(scope='session')
def trained(data, run_python, tmp_path_factory):
    """Train two iterations of a toolbox's task, once; gives the work dir and the result."""
    done = {}

    def train(scope):
        if scope not in done:
            config, name, *_ = TASKS[scope]
            work_dir = tmp_path_factory.mktemp(scope)
            done[scope] = work_dir, run_python(
                ROOT / 'tools/train.py', ROOT / config, '--work-dir', work_dir,
                '--data-root', data / name, '--cfg-options', *shrink(scope), cwd=work_dir,
            )  # fmt: skip
        return done[scope]

    return train
