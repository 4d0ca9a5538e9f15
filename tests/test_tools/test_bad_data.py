"""Unusable data: one line with the file and the remedy, for each task."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from PIL import Image

from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.cli import train as training

from ..utils.tasks import ROOT

pytestmark = pytest.mark.filterwarnings('ignore')

# Small configs; each trains on four images of 32x32 pixels.
SMALL = {
    'classify': """
_base_ = '{root}/configs/resnet18-mod_cifar10-folder.py'
model = dict(backbone=dict(base_channels=16, stem_channels=16), head=dict(in_channels=128))
train_dataset = dict(classes=['a', 'b'])
train_cfg = dict(max_epochs=9)
""",
    'segment': """
_base_ = '{root}/configs/fcn_r18-mod_camvid.py'
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(base_channels=16, stem_channels=16),
    decode_head=dict(in_channels=128, channels=16),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
            dict(type='Resize', scale=(32, 32)), dict(type='PackSegInputs')]
train_dataset = dict(pipeline=pipeline)
train_cfg = dict(max_iters=9)
""",
    'detect': """
_base_ = '{root}/configs/faster-rcnn_r18-mod_fpn_bccd.py'
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16),
    ),
)
train_dataset = dict(
    type='CocoDataset', ann_file='boxes.json', data_prefix=dict(_delete_=True, img='images'),
)
train_cfg = dict(max_epochs=9)
""",
}
REST = """
train_dataloader = dict(
    batch_size=2, num_workers={workers}, persistent_workers={workers} > 0, dataset=train_dataset
)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=-1, save_best=None))
custom_hooks = [dict(type='FilesVanish', folder='{vanishing}')]
"""


@HOOKS.register_module(force=True)
class FilesVanish(Hook):
    """Removes a folder after three iterations, in the middle of an epoch of two."""

    priority = 'LOWEST'  # after checkpoints

    def __init__(self, folder):
        self.folder = folder

    def after_train_iter(self, runner, *rest, **more):
        if self.folder and runner.iter + 1 == 3:
            shutil.rmtree(self.folder)


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture
def coco():
    """The content of an annotation file."""
    box = dict(category_id=1, area=400, iscrowd=0, bbox=[4, 4, 20, 20])
    return dict(
        images=[dict(id=i, file_name=f'{i}.png', width=32, height=32) for i in range(4)],
        annotations=[dict(box, id=i, image_id=i) for i in range(4)],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(['RBC', 'WBC'])],
    )


@pytest.fixture
def folder(tmp_path, picture, coco):
    """Images, label maps and boxes for the three configs."""
    data = tmp_path / 'data'
    for name in ('images/train', 'labels/train', 'train/a', 'train/b'):
        (data / name).mkdir(parents=True)
    for i in range(4):
        image = Image.fromarray(picture)
        image.save(data / f'images/{i}.png')
        image.save(data / f'images/train/{i}.jpg')
        image.save(data / f'train/{"ab"[i % 2]}/{i}.png')
        Image.fromarray(picture[..., 0] % 11).save(data / f'labels/train/{i}.png')
    (data / 'boxes.json').write_text(json.dumps(coco))
    return data


@pytest.fixture
def run(fails, folder, tmp_path):
    """Train until it fails; gives the one line that it ended with."""
    pytest.importorskip('mmdet')
    pytest.importorskip('mmpretrain')

    def train(task, *options, workers=0, vanishing=''):
        text = (SMALL[task] + REST).format(root=ROOT, workers=workers, vanishing=vanishing)
        (tmp_path / f'{task}.py').write_text(text)
        return fails(
            training.main, f'{task}.py', '--data-root', folder, '--work-dir', 'out',
            *(['--cfg-options', *options] if options else []),
        )  # fmt: skip

    return train


NO_IMAGES = ': the data set finds no images; check its ann_file'
VANISHING = {'classify': 'train/a', 'segment': 'labels/train', 'detect': 'images'}


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('task', VANISHING)
def test_files_that_vanish_in_the_middle_of_an_epoch(run, folder, task, workers):
    vanishing = folder / VANISHING[task]
    line = run(task, workers=workers, vanishing=vanishing)
    assert line.startswith(f'error: {vanishing}/')
    assert 'png cannot be read ([Errno 2] No such file or directory: ' in line
    assert line.endswith('; replace it or remove it from the data set')
    last = Path('out/last_checkpoint').read_text()
    assert read_checkpoint(last)['meta']['iter'] >= 2


@pytest.mark.parametrize(
    ('task', 'option', 'words'),
    [
        ('classify', 'model.head.num_classes=1', 'has 2 classes, but model.head.num_classes is 1'),
        (
            'segment',
            'model.decode_head.num_classes=10',
            'has 11 classes, but model.decode_head.num_classes is 10',
        ),
        (
            'detect',
            'model.roi_head.bbox_head.num_classes=2',
            'has 3 classes, but model.roi_head.bbox_head.num_classes is 2',
        ),
    ],
)
def test_more_classes_than_the_head_has(run, task, option, words):
    line = run(task, option)
    assert words in line
    assert 'data/' in line
    assert 'set it to' in line
    assert not list(Path('out').glob('*.pth'))


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('a/0.png 0\na/2.png 10\n', 'has the label 10, but model.head.num_classes is 10, for'),
        ('a/0.png 0\na/2.png -1\n', 'has the label -1, but model.head.num_classes is 10, for'),
        ('a/0.png 0\na/2.png x\n', "cannot be read (invalid literal for int() with base 10: 'x')"),
        ('a/0.png\n', 'cannot be read (not enough values'),
        ('', ': the data set finds no images; check its ann_file'),
    ],
)
def test_an_annotation_file_of_a_classifier(run, folder, content, words):
    (folder / 'list.txt').write_text(content)
    line = run('classify', 'train_dataloader.dataset.ann_file=list.txt')
    assert f'{folder}/list.txt{" " * (content != "")}{words}' in line


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda text: text[:-200], ' cannot be read (Expecting'),
        (lambda text: '', ' cannot be read (Expecting value: line 1'),
        (lambda text: text.replace('bbox', 'box'), ' cannot be read (KeyError: bbox'),
        (lambda text: text.replace('"RBC"', '"rbc"').replace('"WBC"', '"wbc"'), NO_IMAGES),
        (lambda text: text.replace('"category_id": 1', '"category_id": 77'), NO_IMAGES),
        (lambda text: text.replace('[4, 4, 20, 20]', '[4, 4, Infinity, 20]'), ': the box from'),
    ],
)
def test_an_annotation_file_of_a_detector(run, folder, change, words):
    path = folder / 'boxes.json'
    path.write_text(change(path.read_text()))
    assert f'{path}{words}' in run('detect')


def test_a_folder_without_images(run, folder):
    for path in (folder / 'images/train').iterdir():
        path.unlink()
    assert NO_IMAGES.removeprefix(': ') in run('segment')


@pytest.mark.parametrize('workers', [0, 2])
def test_a_label_without_a_class(run, folder, workers):
    """In a label map, also from a worker; then an image that cannot be resized."""
    for path in (folder / 'labels/train').iterdir():
        Image.fromarray(np.full((32, 32), 12, np.uint8)).save(path)
    line = run('segment', workers=workers)
    assert f'error: {folder}/labels/train/' in line
    assert 'has the value 12, which is none of the 11 classes (0 to 10; ignored: 11)' in line

    for path in (folder / 'images/train').iterdir():
        Image.new('RGB', (1, 3000)).save(path)
        Image.new('L', (1, 3000)).save(folder / f'labels/train/{path.stem}.png')
    keep = 'train_dataloader.dataset.pipeline.2.keep_ratio=True'
    line = run('segment', keep, workers=workers)
    assert f'error: Resize fails on {folder}/images/train/' in line
    assert line.endswith('change its settings, or remove the image from the data set')


@pytest.mark.parametrize('task', ['classify', 'segment', 'detect'])
def test_images_of_one_pixel(run, folder, task):
    """They can be trained on; but no box fits into them."""
    for path in folder.rglob('*.[jp][pn]g'):
        Image.new('L' if 'labels' in path.parts else 'RGB', (1, 1)).save(path)
    if task == 'detect':
        line = run(task)
        assert f'{folder}/boxes.json: the box from (4, 4) to (24, 24) covers no part of' in line
        assert '.png (1x1 pixels); correct or remove' in line
    else:
        with pytest.raises(pytest.fail.Exception, match='DID NOT RAISE'):
            run(task)
        assert Path('out/last_checkpoint').read_text().endswith('_9.pth')
