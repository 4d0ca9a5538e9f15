"""Errors for invalid label maps and boxes name the file and the value."""

import re

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image
from torch import nn

from mmcnnmod.datasets import CheckedLoading, name_unreadable_files
from mmcnnmod.datasets.labels import LabelCheck
from mmcnnmod.errors import UserError


class DataSet:
    """The attributes of a data set of mmseg or mmdet that are read."""

    def __init__(self, classes=3, **attributes):
        self.metainfo = {'classes': ['class'] * classes} if classes else {}
        vars(self).update(attributes)


class Segmentor(nn.Module):
    def __init__(self, num_classes, ignore_index):
        super().__init__()
        self.decode_head = nn.Identity()
        self.decode_head.num_classes, self.decode_head.ignore_index = num_classes, ignore_index


@pytest.fixture
def load(tmp_path):
    """A function that loads a label map as mmseg does, with an image of 6x4 pixels."""
    mmseg = pytest.importorskip('mmseg.datasets')

    def run(labels, dataset=None, model=None, reduce=False, label_map=None, size=(6, 4), exif=b''):
        # PNG does not support 32 bits, and Pillow rotates TIFF.
        path = tmp_path / ('labels.png' if exif else 'labels.tif')
        if not isinstance(labels, Image.Image):
            labels = Image.fromarray(labels)
        labels.save(path, exif=exif)
        Image.new('RGB', size).save(tmp_path / 'image.jpg', exif=exif)
        check = LabelCheck.for_dataset(dataset or DataSet(), model)
        results = dict(
            img_path=str(tmp_path / 'image.jpg'), seg_map_path=str(path), seg_fields=[],
            reduce_zero_label=reduce, label_map=label_map,
        )  # fmt: skip
        results = CheckedLoading(LoadImageFromFile(), check)(results)
        return CheckedLoading(mmseg.transforms.LoadAnnotations(), check)(results)['gt_seg_map']

    return run


def filled(*values, dtype=np.uint8):
    """A label map of 6x4 pixels."""
    return np.resize(np.array(values, dtype), (4, 6))


@pytest.mark.parametrize(
    'labels',
    [
        filled(0, 1, 2, 255),
        filled(0, 1, 2, 255, dtype=np.uint16),
        filled(0, 1, 2, dtype=np.int32),
        filled(0, 1, dtype=bool),
    ],
)
def test_valid_label_maps_load_without_changes(load, labels):
    assert np.array_equal(load(labels), labels)


def test_labels_are_the_indices_of_a_palette(load):
    image = Image.fromarray(filled(0, 1, 2)).convert('P')
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    assert np.array_equal(load(image), filled(0, 1, 2))


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (5, 1)])
def test_label_maps_of_one_row_stay_two_dimensional(load, size):
    assert load(Image.new('L', size), size=size).shape == size[::-1]


@pytest.mark.parametrize(
    ('labels', 'words'),
    [
        (filled(0, 1, 3), 'has the value 3, which is none of the 3 classes (0 to 2; ignored: 255)'),
        (filled(0, 254), 'has the value 254, which is none'),
        (filled(1, 256, dtype=np.uint16), 'has the value 256, but mmseg reads labels of 8 bits'),
        (filled(1, 70000, dtype=np.int32), 'has the value 70000, but mmseg reads labels of 8 bits'),
        (filled(1, -1, dtype=np.int32), 'has the value -1, but mmseg reads labels of 8 bits'),
        (Image.new('RGB', (6, 4)), 'is not a label map: it has 3 values per pixel'),
        (Image.new('RGBA', (6, 4)), 'is not a label map: it has 4 values per pixel'),
        (Image.new('LA', (6, 4)), 'is not a label map: it has 2 values per pixel'),
        (Image.new('L', (4, 6)), 'has 4x6 pixels, but its image'),
        (Image.new('L', (3, 2)), 'has 3x2 pixels, but its image'),
    ],
)
def test_invalid_label_map_raises_an_error(load, tmp_path, labels, words):
    with pytest.raises(UserError, match=f'^{re.escape(f"{tmp_path}/labels.tif {words}")}') as error:
        load(labels)
    assert ';' in str(error.value).split(words)[1]  # the remedy


def test_labels_are_checked_after_reduce_zero_label_and_label_map(load):
    assert load(filled(0, 1, 3), reduce=True).max() == 255
    with pytest.raises(UserError, match='has the value 3 after reduce_zero_label, which'):
        load(filled(0, 1, 4), reduce=True)
    assert load(filled(0, 7), label_map={7: 2}).max() == 2
    with pytest.raises(UserError, match='has the value 9, which'):
        load(filled(0, 7), label_map={7: 9})


def test_head_and_data_set_define_the_ignored_value(load):
    labels, other = filled(0, 11), filled(0, 255)
    with pytest.raises(UserError, match='has the value 11'):
        load(labels)
    load(labels, DataSet(ignore_index=11))
    load(labels, model=Segmentor(3, 11))
    with pytest.raises(UserError, match=r'has the value 255, .* ignored: 11\)'):
        load(other, model=Segmentor(3, 11))  # its loss would not ignore it
    load(other, DataSet(test_mode=True), Segmentor(3, 11))
    # Without class names, the head has the number of classes.
    load(filled(3), DataSet(classes=0))
    with pytest.raises(UserError, match='none of the 3 classes'):
        load(filled(3), DataSet(classes=0), Segmentor(3, 255))


def test_label_map_must_have_the_size_of_the_image_after_exif_rotation(load):
    """The label map itself is not rotated."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load(Image.new('L', (4, 6)), exif=exif).shape == (6, 4)
    words = r'labels\.png has 6x4 pixels, but its image .*image\.jpg has 4x6 after its EXIF'
    with pytest.raises(UserError, match=words):
        load(Image.new('L', (6, 4)), exif=exif)


def load_boxes(dataset, *boxes, ignored=False):
    """Load boxes as mmdet does, for an image of 60x40 pixels."""
    mmdet = pytest.importorskip('mmdet.datasets')
    check = LabelCheck.for_dataset(dataset)
    load = CheckedLoading(mmdet.transforms.LoadAnnotations(with_bbox=True), check)
    instances = [dict(bbox=box, bbox_label=1, ignore_flag=int(ignored)) for box in boxes]
    return load(dict(img_path='a.jpg', ori_shape=(40, 60), instances=instances))['gt_bboxes']


def test_valid_boxes_load():
    assert len(load_boxes(DataSet(), [0, 0, 60, 40], [-5, 3, 9, 99], [59, 39, 60, 40])) == 3
    assert len(load_boxes(DataSet())) == 0


@pytest.mark.parametrize(
    'box',
    [
        [5, 5, 5, 9], [9, 5, 5, 9], [5, 9, 9, 5], [60, 0, 70, 9], [0, 40, 9, 50], [-9, 0, 0, 9],
        [5, 5, float('nan'), 9], [5, 5, float('inf'), 9],
    ],
)  # fmt: skip
def test_invalid_box_raises_an_error(box):
    dataset = DataSet(ann_file='boxes.json')
    words = r'^boxes\.json: the box from .* of a\.jpg \(60x40 pixels\);'
    with pytest.raises(UserError, match=words):
        load_boxes(dataset, [0, 0, 9, 9], box)
    if np.isfinite(box).all():
        load_boxes(dataset, box, ignored=True)
        load_boxes(DataSet(test_mode=True), box)  # a metric counts it as missed
    else:
        with pytest.raises(UserError, match='the box from'):
            load_boxes(DataSet(test_mode=True), box)


def test_box_with_an_unknown_label_raises_an_error():
    with pytest.raises(UserError, match='has the label 1, but there are 1 classes'):
        load_boxes(DataSet(classes=1), [0, 0, 9, 9])


def test_error_of_another_transform_names_the_image():
    mmengine = pytest.importorskip('mmengine.dataset')

    def halve(results):
        return results['size'] / 0

    dataset = mmengine.BaseDataset(lazy_init=True, pipeline=[halve], serialize_data=False)
    for _ in range(2):  # the second call changes nothing
        name_unreadable_files(dataset)
    with pytest.raises(UserError, match=r'^function fails on a\.jpg \(division by zero\); change'):
        dataset.pipeline({'img_path': 'a.jpg', 'size': 1})
    with pytest.raises(ZeroDivisionError):
        dataset.pipeline({'size': 1})
