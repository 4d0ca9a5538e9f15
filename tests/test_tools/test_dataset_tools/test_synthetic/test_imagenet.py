import numpy as np
from PIL import Image
from synthetic.imagenet import draw_image


def test_layout(make_set):
    """Images cycle through the classes; the lists name all files in the order of drawing."""
    root = make_set('imagenet', '--train', 13, '--val', 6, '--classes', 5, '--size', '80x64')
    paths = {
        'train': [f'n{n % 5 + 1:08d}/n{n % 5 + 1:08d}_{n}.JPEG' for n in range(13)],
        'val': [f'n{n % 5 + 1:08d}/ILSVRC2012_val_{n + 1:08d}.JPEG' for n in range(6)],
    }
    for split, names in paths.items():
        folder = root / split
        files = sorted(path.relative_to(folder).as_posix() for path in folder.glob('*/*'))
        assert files == sorted(names)
        lines = (root / 'meta' / f'{split}.txt').read_text().splitlines()
        assert lines == [f'{name} {n % 5}' for n, name in enumerate(names)]
    for path in root.rglob('*.JPEG'):
        with Image.open(path) as image:
            assert (image.format, image.size, image.mode) == ('JPEG', (80, 64), 'RGB')


def test_position_and_size_of_objects_vary():
    boxes = []
    for number in range(12):
        canvas = draw_image('train', number, 3, (96, 96), seed=0)
        rows, columns = np.nonzero(canvas.owner == len(canvas.objects) - 1)
        boxes.append((rows.mean(), columns.mean(), len(rows)))
    middle_y, middle_x, area = np.std(boxes, 0) / (96, 96, np.mean(boxes, 0)[2])
    assert min(middle_y, middle_x) > 0.05
    assert area > 0.2
