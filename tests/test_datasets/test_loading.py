"""Images that are cut short are refused by name; complete ones of any format pass."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image, ImageOps

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


def cmyk(picture, path):
    picture.convert('CMYK').save(path, quality=95)


def with_alpha(picture, path):
    picture.putalpha(Image.new('L', picture.size, 10))
    picture.save(path)


def grey(picture, path):
    picture.convert('L').save(path)


def grey_with_alpha(picture, path):
    picture.convert('LA').save(path)


def palette(picture, path):
    picture.quantize(8).save(path)


def of_16_bits(picture, path):
    cv2.imwrite(str(path), np.asarray(picture)[..., ::-1].astype(np.uint16) * 257)


# How a picture is written: (name, function).
WRITERS = [
    ('a.jpg', cmyk), ('a.tif', cmyk), ('a.png', with_alpha), ('a.png', grey),
    ('a.png', grey_with_alpha), ('a.png', palette), ('a.png', of_16_bits), ('a.tif', of_16_bits),
]  # fmt: skip


@pytest.mark.parametrize(('name', 'write'), WRITERS)
def test_images_of_every_mode_become_three_channels_of_8_bits(tmp_path, name, write):
    """Alpha is left out, and of 16 bits the upper 8 stay."""
    left, right = (200, 100, 50), (20, 220, 120)
    picture = Image.new('RGB', (60, 40), left)
    picture.paste(right, (32, 0, 60, 40))
    write(picture.copy(), tmp_path / name)
    image = load({'img_path': str(tmp_path / name)})['img'][..., ::-1]
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    if 'grey' in write.__name__:
        left, right = ([picture.convert('L').getpixel((x, 9))] * 3 for x in (9, 50))
    assert abs(image[9, 9].astype(int) - left).max() <= 2
    assert abs(image[9, 50].astype(int) - right).max() <= 2


@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_are_turned_as_exif_says(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / 'a.jpg', exif=exif)
    loaded = load({'img_path': str(tmp_path / 'a.jpg')})
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / 'a.jpg')))
    assert loaded['ori_shape'] == upright.shape[:2]
    assert abs(loaded['img'][..., ::-1].astype(int) - upright).max() <= 4


def test_an_image_of_one_pixel(tmp_path):
    Image.new('RGB', (1, 1), (1, 2, 3)).save(tmp_path / 'a.png')
    assert load({'img_path': str(tmp_path / 'a.png')})['img'].tolist() == [[[3, 2, 1]]]


def write_claim(path, mode, side):
    """A PNG of some bytes whose header claims many pixels."""
    Image.new(mode, (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack('>II', side, side)
    content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
    path.write_bytes(content)


@pytest.mark.parametrize('loads', ['image', 'labels'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_a_claim_of_many_pixels_is_refused_before_memory_is_taken(tmp_path, loads, backend):
    mmseg = pytest.importorskip('mmseg.datasets')
    path = tmp_path / 'a.png'
    write_claim(path, 'RGB' if loads == 'image' else 'L', 20000)
    step, key = LoadImageFromFile, 'img_path'
    if loads == 'labels':
        step, key = mmseg.transforms.LoadAnnotations, 'seg_map_path'
    step = step(imdecode_backend=backend)
    step.transform = lambda results: pytest.fail('it was read')
    with pytest.raises(UserError, match=rf'^{path} cannot be read \(.*400000000 pixels.*; replace'):
        CheckedLoading(step)({key: str(path), 'reduce_zero_label': False})


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
