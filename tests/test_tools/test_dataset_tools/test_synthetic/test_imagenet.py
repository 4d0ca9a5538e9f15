import numpy as np
import pytest
from PIL import Image
from synthetic.imagenet import draw_picture


@pytest.fixture(scope='module')
def imagenet(make_set):
    return make_set(
        'imagenet', '--train', 13, '--val', 6, '--classes', 5, '--size', '80x64', '--seed', 2
    )


@pytest.mark.parametrize(('split', 'count'), [('train', 13), ('val', 6)])
def test_meta_lines_match_files(imagenet, split, count):
    text = (imagenet / 'meta' / f'{split}.txt').read_text()
    lines = [line.split() for line in text.splitlines()]
    assert len(lines) == count
    folder = imagenet / split
    files = sorted(path.relative_to(folder).as_posix() for path in folder.glob('*/*'))
    assert sorted(path for path, _ in lines) == files
    folders = sorted(path.name for path in folder.iterdir())
    assert folders == [f'n{n:08d}' for n in range(1, 6)]
    for path, index in lines:
        assert path.split('/')[0] == folders[int(index)]
    assert {int(index) for _, index in lines} == set(range(5))


def test_file_names(imagenet):
    train = list((imagenet / 'train').glob('*/*'))
    assert all(p.name.startswith(f'{p.parent.name}_') and p.suffix == '.JPEG' for p in train)
    val = sorted(p.name for p in (imagenet / 'val').glob('*/*'))
    assert val == [f'ILSVRC2012_val_{n:08d}.JPEG' for n in range(1, 7)]


def test_files_are_jpegs_of_the_size(imagenet):
    for path in imagenet.rglob('*.JPEG'):
        with Image.open(path) as picture:
            assert (picture.format, picture.size, picture.mode) == ('JPEG', (80, 64), 'RGB')


def test_place_and_size_vary():
    boxes = []
    for number in range(12):
        canvas = draw_picture('train', number, 3, (96, 96), seed=0)
        rows, columns = np.nonzero(canvas.owner == len(canvas.objects) - 1)
        boxes.append((rows.mean(), columns.mean(), len(rows)))
    middle_y, middle_x, area = np.std(boxes, 0) / (96, 96, np.mean(boxes, 0)[2])
    assert min(middle_y, middle_x) > 0.05
    assert area > 0.2


def test_same_arguments_same_bytes(make_set, files_of):
    arguments = ('--train', 3, '--val', 3, '--classes', 3, '--seed')
    first, again, other = (files_of(make_set('imagenet', *arguments, seed)) for seed in (5, 5, 6))
    assert first == again
    pictures = [name for name in first if name.endswith('.JPEG')]
    assert len(pictures) == 6
    assert all(first[name] != other[name] for name in pictures)
