"""Finding the classes in images, and drawing images of each class."""

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, Compose, RepeatDataset

from mmcnnmod.datasets import class_reader, draw_images, unwrap_dataset
from mmcnnmod.errors import UserError


class LabelledImages(BaseDataset):
    """A data set with labels, for classification or detection."""

    METAINFO = dict(classes=('cat', 'dog', 'emu'))

    def __init__(self, labels, pipeline=()):
        self.labels = labels
        super().__init__(pipeline=list(pipeline))

    def load_data_list(self):
        return [dict(img_path=f'{i}.png', **info) for i, info in enumerate(self.labels)]

    def get_cat_ids(self, idx):
        return self.get_data_info(idx)['gt_label']


class ImagesWithLabelMaps(LabelledImages):
    """A data set of mmsegmentation has no `get_cat_ids`."""

    def get_cat_ids(self, idx):
        return BaseDataset.get_cat_ids(self, idx)


class LoadAnnotations:
    def __call__(self, results):
        results['gt_seg_map'] = np.load(results['seg_map_path'])
        return results


def test_data_sets_inside_wrappers_are_found():
    cats, dogs = LabelledImages([dict(gt_label=[0])]), LabelledImages([dict(gt_label=[1])] * 2)
    both = RepeatDataset(dict(type='ConcatDataset', datasets=[cats, dogs]), 3)
    assert [len(dataset) for dataset in unwrap_dataset(both)] == [1, 2]
    assert unwrap_dataset(dogs) == [dogs]


def test_classes_are_read_from_labels():
    labels = [[2], [1, 1, 0], []]
    read = class_reader(LabelledImages([dict(gt_label=label) for label in labels]))
    assert [read(i) for i in range(3)] == [{2}, {0, 1}, set()]


def test_classes_are_read_from_label_maps_without_the_image(tmp_path):
    np.save(tmp_path / '0.npy', np.array([[0, 2], [2, 255]]))  # 255 is not a class
    dataset = ImagesWithLabelMaps([dict(seg_map_path=str(tmp_path / '0.npy'))])
    dataset.pipeline = Compose([LoadAnnotations()])
    assert class_reader(dataset)(0) == {0, 2}


@pytest.mark.parametrize('kind', [LabelledImages, ImagesWithLabelMaps])
def test_image_without_labels_raises_an_error(kind):
    with pytest.raises(UserError, match=r'0\.png has no label.*--split'):
        class_reader(kind([{}]))(0)


def test_images_are_drawn_at_random_from_each_class():
    occurring = [{0}, {0, 1}, {0}, set(), {0, 1}, {2}]
    drawn = draw_images(occurring, 2, seed=0)
    assert list(drawn) == [0, 1, 2]
    assert len(set(drawn[0])) == 2
    assert set(drawn[0]) <= {0, 1, 2, 4}
    assert sorted(drawn[1]) == [1, 4]
    assert drawn[2] == [5]
    assert drawn == draw_images(occurring, 2, seed=0)
    assert len({tuple(draw_images(occurring, 2, seed)[0]) for seed in range(20)}) > 1
