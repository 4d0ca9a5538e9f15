"""Images that are cut short are refused by name; complete ones of any format pass."""

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from mmcnnmod.datasets import LoadCompleteImageFromFile
from mmcnnmod.errors import UserError


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp'])
def test_complete_images_load_as_ever(tmp_path, picture, suffix):
    path = tmp_path / f'a{suffix}'
    picture.save(path)
    expected = LoadImageFromFile()({'img_path': str(path)})
    loaded = LoadCompleteImageFromFile()({'img_path': str(path)})
    assert np.array_equal(loaded['img'], expected['img'])
    assert loaded['img_shape'] == (40, 60)


def test_bytes_after_the_end_do_no_harm(tmp_path, picture):
    path = tmp_path / 'a.jpg'
    picture.save(path)
    path.write_bytes(path.read_bytes() + bytes(500))
    assert LoadCompleteImageFromFile()({'img_path': str(path)})['img_shape'] == (40, 60)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('share', [0.0, 0.1, 0.6, 0.95])
def test_truncated_images_are_refused(tmp_path, picture, suffix, share):
    path = tmp_path / f'a{suffix}'
    picture.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=rf'image {path} cannot be read .*; replace it'):
        LoadCompleteImageFromFile()({'img_path': str(path)})


def test_missing_image(tmp_path):
    with pytest.raises(UserError, match=r'gone\.jpg cannot be read'):
        LoadCompleteImageFromFile()({'img_path': str(tmp_path / 'gone.jpg')})
