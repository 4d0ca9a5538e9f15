"""Images that are cut short are refused by name; complete ones of any format pass."""

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from mmcnnmod.datasets import CheckedLoading, name_unreadable_files
from mmcnnmod.errors import UserError

load = CheckedLoading(LoadImageFromFile())


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp'])
def test_complete_images_load_as_ever(tmp_path, picture, suffix):
    path = tmp_path / f'a{suffix}'
    picture.save(path)
    expected = LoadImageFromFile()({'img_path': str(path)})
    loaded = load({'img_path': str(path)})
    assert np.array_equal(loaded['img'], expected['img'])
    assert loaded['img_shape'] == (40, 60)


def test_bytes_after_the_end_do_no_harm(tmp_path, picture):
    path = tmp_path / 'a.jpg'
    picture.save(path)
    path.write_bytes(path.read_bytes() + bytes(500))
    assert load({'img_path': str(path)})['img_shape'] == (40, 60)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('share', [0.0, 0.1, 0.6, 0.95])
def test_truncated_images_are_refused(tmp_path, picture, suffix, share):
    path = tmp_path / f'a{suffix}'
    picture.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=rf'^{path} cannot be read .*; replace it'):
        load({'img_path': str(path)})


def test_missing_image(tmp_path):
    with pytest.raises(UserError, match=r'gone\.jpg cannot be read'):
        load({'img_path': str(tmp_path / 'gone.jpg')})


def test_every_loading_step_of_nested_data_sets_is_wrapped(tmp_path):
    mmengine = pytest.importorskip('mmengine.dataset')
    mmseg = pytest.importorskip('mmseg.datasets')
    pipeline = [LoadImageFromFile(), mmseg.transforms.LoadAnnotations(), lambda results: results]
    inner = mmengine.BaseDataset(lazy_init=True, pipeline=pipeline, serialize_data=False)
    name_unreadable_files(mmengine.RepeatDataset(inner, times=2, lazy_init=True))
    wrapped = [isinstance(step, CheckedLoading) for step in inner.pipeline.transforms]
    assert wrapped == [True, True, False]

    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / 'labels.png')
    labels = tmp_path / 'labels.png'
    labels.write_bytes(labels.read_bytes()[:40])
    results = {'img_path': 'a.jpg', 'seg_map_path': str(labels), 'reduce_zero_label': False}
    with pytest.raises(UserError, match=rf'^{labels} cannot be read'):
        inner.pipeline.transforms[1]({**results, 'seg_fields': [], 'label_map': None})
