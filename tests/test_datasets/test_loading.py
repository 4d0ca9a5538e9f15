"""Complete images of all formats load; errors for others name the file."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image, ImageOps

from mmcnnmod.datasets import CheckedLoading, name_unreadable_files
from mmcnnmod.errors import UserError


def load(path):
    return CheckedLoading(LoadImageFromFile())({'img_path': str(path)})


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp'])
def test_complete_images_load_without_changes(tmp_path, image, suffix):
    path = tmp_path / f'a{suffix}'
    image.save(path)
    expected = LoadImageFromFile()({'img_path': str(path)})
    loaded = load(path)
    assert np.array_equal(loaded['img'], expected['img'])
    assert loaded['img_shape'] == (40, 60)


def test_bytes_after_the_end_are_ignored(tmp_path, image):
    path = tmp_path / 'a.jpg'
    image.save(path)
    path.write_bytes(path.read_bytes() + bytes(500))
    assert load(path)['img_shape'] == (40, 60)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('share', [None, 0.0, 0.1, 0.6, 0.95])
def test_missing_or_truncated_image_raises_an_error(tmp_path, image, suffix, share):
    path = tmp_path / f'a{suffix}'
    if share is not None:
        image.save(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=rf'^{path} cannot be read .*; replace it'):
        load(path)


@pytest.mark.parametrize(
    ('name', 'mode'),
    [
        ('a.jpg', 'CMYK'), ('a.tif', 'CMYK'), ('a.png', 'RGBA'), ('a.png', 'L'), ('a.png', 'LA'),
        ('a.png', 'P'), ('a.png', '16 bits'), ('a.tif', '16 bits'),
    ],
)  # fmt: skip
def test_images_of_all_modes_become_three_channels_of_8_bits(tmp_path, name, mode):
    """Alpha is dropped. The upper 8 of 16 bits are kept."""
    left, right = (200, 100, 50), (20, 220, 120)
    image = Image.new('RGB', (60, 40), left)
    image.paste(right, (32, 0, 60, 40))
    if mode == '16 bits':
        cv2.imwrite(str(tmp_path / name), np.asarray(image)[..., ::-1].astype(np.uint16) * 257)
    else:
        converted = image.quantize(8) if mode == 'P' else image.convert(mode)
        if mode.endswith('A'):
            converted.putalpha(10)
        converted.save(tmp_path / name, quality=95)
    loaded = load(tmp_path / name)['img'][..., ::-1]
    assert (loaded.shape, loaded.dtype) == ((40, 60, 3), np.uint8)
    if mode.startswith('L'):
        left, right = ([image.convert('L').getpixel((x, 9))] * 3 for x in (9, 50))
    assert abs(loaded[9, 9].astype(int) - left).max() <= 2
    assert abs(loaded[9, 50].astype(int) - right).max() <= 2


@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_are_rotated_according_to_exif(tmp_path, image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / 'a.jpg', exif=exif)
    loaded = load(tmp_path / 'a.jpg')
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / 'a.jpg')))
    assert loaded['ori_shape'] == upright.shape[:2]
    assert abs(loaded['img'][..., ::-1].astype(int) - upright).max() <= 4


def test_image_of_one_pixel_loads(tmp_path):
    Image.new('RGB', (1, 1), (1, 2, 3)).save(tmp_path / 'a.png')
    assert load(tmp_path / 'a.png')['img'].tolist() == [[[3, 2, 1]]]


@pytest.mark.parametrize('kind', ['image', 'label map'])
def test_too_large_size_in_the_header_raises_an_error_before_decoding(tmp_path, kind):
    mmseg = pytest.importorskip('mmseg.datasets')
    path = tmp_path / 'a.png'
    Image.new('RGB' if kind == 'image' else 'L', (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack('>II', 20000, 20000)
    content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
    path.write_bytes(content)
    transform, key = LoadImageFromFile(), 'img_path'
    if kind == 'label map':
        transform, key = mmseg.transforms.LoadAnnotations(), 'seg_map_path'
    transform.transform = lambda results: pytest.fail('the file was decoded')
    with pytest.raises(UserError, match=rf'^{path} cannot be read \(.*400000000 pixels.*; replace'):
        CheckedLoading(transform)({key: str(path), 'reduce_zero_label': False})


def test_loading_transforms_of_nested_data_sets_are_wrapped(tmp_path):
    mmengine = pytest.importorskip('mmengine.dataset')
    mmseg = pytest.importorskip('mmseg.datasets')
    pipeline = [LoadImageFromFile(), mmseg.transforms.LoadAnnotations(), lambda results: results]
    inner = mmengine.BaseDataset(lazy_init=True, pipeline=pipeline, serialize_data=False)
    name_unreadable_files(mmengine.RepeatDataset(inner, times=2, lazy_init=True))
    wrapped = [isinstance(step, CheckedLoading) for step in inner.pipeline.transforms]
    assert wrapped == [True, True, False]

    labels = tmp_path / 'labels.png'
    Image.new('L', (9, 9)).save(labels)
    labels.write_bytes(labels.read_bytes()[:40])
    results = {'img_path': 'a.jpg', 'seg_map_path': str(labels), 'reduce_zero_label': False}
    with pytest.raises(UserError, match=rf'^{labels} cannot be read'):
        inner.pipeline.transforms[1]({**results, 'seg_fields': [], 'label_map': None})
