"""Training on unusable data ends with one line that names the file and the remedy."""

import json
import re
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

# A config for each task; all train on four images of 32x32 pixels.
CONFIGS = {
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
COMMON = """
train_dataloader = dict(
    batch_size=2, num_workers={workers}, persistent_workers={workers} > 0, dataset=train_dataset
)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=-1, save_best=None))
custom_hooks = [dict(type='DeleteFolder', folder='{deleted}')]
"""


@HOOKS.register_module(force=True)
class DeleteFolder(Hook):
    """Deletes a folder after three iterations, in the middle of an epoch of two."""

    priority = 'LOWEST'  # after checkpoints

    def __init__(self, folder):
        self.folder = folder

    def after_train_iter(self, runner, *_, **__):
        if self.folder and runner.iter == 2:
            shutil.rmtree(self.folder)


@pytest.fixture
def folder(tmp_path):
    """Images, label maps and boxes for the three configs."""
    data = tmp_path / 'data'
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for name in ('images/train', 'labels/train', 'train/a', 'train/b'):
        (data / name).mkdir(parents=True)
    for i in range(4):
        image = Image.fromarray(pixels)
        image.save(data / f'images/{i}.png')
        image.save(data / f'images/train/{i}.jpg')
        image.save(data / f'train/{"ab"[i % 2]}/{i}.png')
        Image.fromarray(pixels[..., 0] % 11).save(data / f'labels/train/{i}.png')
    box = dict(category_id=1, area=400, iscrowd=0, bbox=[4, 4, 20, 20])
    boxes = dict(
        images=[dict(id=i, file_name=f'{i}.png', width=32, height=32) for i in range(4)],
        annotations=[dict(box, id=i, image_id=i) for i in range(4)],
        categories=[dict(id=1, name='RBC'), dict(id=2, name='WBC')],
    )
    (data / 'boxes.json').write_text(json.dumps(boxes))
    return data


@pytest.fixture
def run(fails, folder, tmp_path):
    """Train until it fails; gives the line with the error."""
    pytest.importorskip('mmdet')
    pytest.importorskip('mmpretrain')

    def train(task, *options, workers=0, deleted=''):
        text = (CONFIGS[task] + COMMON).format(root=ROOT, workers=workers, deleted=deleted)
        (tmp_path / f'{task}.py').write_text(text)
        return fails(
            training.main, f'{task}.py', '--data-root', folder, '--work-dir', 'out',
            *(['--cfg-options', *options] if options else []),
        )  # fmt: skip

    return train


NO_IMAGES = 'the data set finds no images; check its ann_file'


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(
    ('task', 'name'), [('classify', 'train/a'), ('segment', 'labels/train'), ('detect', 'images')]
)
def test_files_deleted_during_an_epoch(run, folder, task, name, workers):
    line = run(task, workers=workers, deleted=folder / name)
    assert line.startswith(f'error: {folder / name}/')
    assert 'png cannot be read ([Errno 2] No such file or directory: ' in line
    assert line.endswith('; replace it or remove it from the data set')
    last = Path('out/last_checkpoint').read_text()
    assert read_checkpoint(last)['meta']['iter'] >= 2


@pytest.mark.parametrize('name', ['images/train', 'labels/train'])
def test_truncated_files(run, folder, name):
    for path in (folder / name).iterdir():
        path.write_bytes(path.read_bytes()[:-90])
    line = run('segment')
    assert line.startswith(f'error: {folder / name}/')
    assert 'cannot be read' in line
    assert 'replace it or remove it' in line


@pytest.mark.parametrize(
    ('task', 'key', 'given', 'classes'),
    [
        ('classify', 'model.head', 1, 2),
        ('segment', 'model.decode_head', 10, 11),
        ('detect', 'model.roi_head.bbox_head', 2, 3),
    ],
)
def test_more_classes_than_the_head_has(run, task, key, given, classes):
    line = run(task, f'{key}.num_classes={given}')
    assert f'has {classes} classes, but {key}.num_classes is {given}' in line
    assert 'data/' in line
    assert 'set it to' in line
    assert not list(Path('out').glob('*.pth'))


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('a/0.png 0\na/2.png 10\n', ' has the label 10, but model.head.num_classes is 10, for'),
        ('a/0.png 0\na/2.png -1\n', ' has the label -1, but model.head.num_classes is 10, for'),
        ('a/0.png 0\na/2.png x\n', " cannot be read (invalid literal for int() with base 10: 'x'"),
        ('a/0.png\n', ' cannot be read (not enough values'),
        ('', f': {NO_IMAGES}'),
    ],
)
def test_annotation_file_of_a_classifier(run, folder, content, words):
    (folder / 'list.txt').write_text(content)
    line = run('classify', 'train_dataloader.dataset.ann_file=list.txt')
    assert f'{folder}/list.txt{words}' in line


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        (r'.{200}$', '', ' cannot be read (Expecting'),
        (r'.*', '', ' cannot be read (Expecting value: line 1'),
        ('bbox', 'box', ' cannot be read (KeyError: bbox'),
        ('BC', 'bc', f': {NO_IMAGES}'),
        ('"category_id": 1', '"category_id": 77', f': {NO_IMAGES}'),
        ('20, 20', 'Infinity, 20', ': the box from'),
    ],
)
def test_annotation_file_of_a_detector(run, folder, old, new, words):
    path = folder / 'boxes.json'
    path.write_text(re.sub(old, new, path.read_text()))
    assert f'{path}{words}' in run('detect')


def test_folder_without_images(run, folder):
    for path in (folder / 'images/train').iterdir():
        path.unlink()
    assert NO_IMAGES in run('segment')


def test_label_without_a_class(run, folder):
    for path in (folder / 'labels/train').iterdir():
        Image.new('L', (32, 32), 12).save(path)
    line = run('segment')
    assert f'error: {folder}/labels/train/' in line
    assert 'has the value 12, which is none of the 11 classes (0 to 10; ignored: 11)' in line


def test_image_that_cannot_be_resized(run, folder):
    for path in (folder / 'images/train').iterdir():
        Image.new('RGB', (1, 3000)).save(path)
        Image.new('L', (1, 3000)).save(folder / f'labels/train/{path.stem}.png')
    line = run('segment', 'train_dataloader.dataset.pipeline.2.keep_ratio=True', workers=2)
    assert f'error: Resize fails on {folder}/images/train/' in line
    assert line.endswith('change its settings, or remove the image from the data set')


@pytest.mark.parametrize('task', ['classify', 'segment', 'detect'])
def test_images_of_one_pixel(run, folder, task):
    """Training works, but no box fits into such an image."""
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
