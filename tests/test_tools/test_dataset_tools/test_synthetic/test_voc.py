from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from synthetic.canvas import Canvas, box
from synthetic.voc import CLASSES, annotation, describe, draw_image, presence

TRAIN, VAL = 20, 4


@pytest.fixture(scope='module')
def devkit(make_set):
    return make_set('voc', '--train', TRAIN, '--val', VAL, '--size', '160x120')


def read_xml(path):
    tree = ElementTree.parse(path).getroot()
    objects = []
    for node in tree.iter('object'):
        corners = tuple(
            int(node.find('bndbox').findtext(k)) for k in ('xmin', 'ymin', 'xmax', 'ymax')
        )
        flags = {k: int(node.findtext(k)) for k in ('truncated', 'difficult')}
        objects.append((node.findtext('name'), corners, flags))
    return tree, objects


def read_list(folder, name):
    return (folder / 'ImageSets' / 'Main' / f'{name}.txt').read_text().split('\n')[:-1]


@pytest.mark.parametrize('year', [2007, 2012])
def test_layout(devkit, year):
    folder = devkit / f'VOC{year}'
    numbers = range(1, TRAIN + 2 * VAL + 1)
    stems = [f'{n:06d}' if year == 2007 else f'{2008 + n % 5}_{n:06d}' for n in numbers]
    splits = {
        'train': stems[:TRAIN],
        'val': stems[TRAIN:-VAL],
        'trainval': stems[:-VAL],
        'test': stems[-VAL:],
    }
    expected = {f'JPEGImages/{stem}.jpg' for stem in stems}
    expected |= {f'Annotations/{stem}.xml' for stem in stems}
    for split, names in splits.items():
        assert read_list(folder, split) == names
        lists = (split, *(f'{name}_{split}' for name in CLASSES))
        expected |= {f'ImageSets/Main/{name}.txt' for name in lists}
    assert {p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file()} == expected


@pytest.mark.parametrize('year', [2007, 2012])
def test_class_lists_match_the_annotations(devkit, year):
    folder = devkit / f'VOC{year}'
    for split in ('train', 'test'):
        found = {
            s: read_xml(folder / 'Annotations' / f'{s}.xml')[1] for s in read_list(folder, split)
        }
        for name in CLASSES:
            lines = dict(line.split() for line in read_list(folder, f'{name}_{split}'))
            assert list(lines) == list(found)
            for stem, objects in found.items():
                flags = [f['difficult'] for n, _, f in objects if n == name]
                wanted = '-1' if not flags else '0' if all(flags) else '1'
                assert lines[stem] == wanted


@pytest.mark.parametrize('year', [2007, 2012])
def test_annotations(devkit, year):
    names = set()
    for path in (devkit / f'VOC{year}' / 'Annotations').iterdir():
        tree, objects = read_xml(path)
        assert tree.findtext('folder') == f'VOC{year}'
        assert tree.findtext('filename') == f'{path.stem}.jpg'
        with Image.open(devkit / f'VOC{year}' / 'JPEGImages' / f'{path.stem}.jpg') as image:
            size = image.size
        assert tuple(int(tree.find('size').findtext(k)) for k in ('width', 'height')) == size
        assert tree.findtext('size/depth') == '3'
        assert tree.findtext('segmented') == '0'
        assert 1 <= len(objects) <= 4
        for name, (xmin, ymin, xmax, ymax), _ in objects:
            names.add(name)
            assert 1 <= xmin < xmax <= size[0]
            assert 1 <= ymin < ymax <= size[1]
    assert names == set(CLASSES)


def test_boxes_are_tight_around_the_visible_pixels():
    for number in range(12):
        canvas, objects = draw_image(2012, 'train', number, (200, 150), seed=0)
        tight = set()
        for n, item in enumerate(canvas.objects):
            rows, columns = np.nonzero(canvas.owner == n)
            if item.label in CLASSES and len(rows):
                frame = (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)
                tight.add((item.label, frame))
        assert {(item.name, item.box) for item in objects} <= tight
        assert objects[-1].name == CLASSES[number]


def test_hidden_objects_and_objects_at_the_edge_are_marked():
    canvas = Canvas(np.random.default_rng(0), 200, 100)
    for name, frame in (
        ('cat', (10, 10, 50, 50)),
        ('dog', (100, 10, 160, 50)),
        ('cow', (-20, 60, 30, 90)),
        ('sheep', (150, 70, 180, 120)),
    ):
        canvas.paint(name, [box(*frame, (120, 120, 120))])
    canvas.paint('bus', [box(120, 5, 190, 60, (200, 0, 0))])
    cat, dog, cow, sheep = (describe(canvas, n) for n in range(4))
    assert (cat.truncated, cat.difficult, cat.box) == (False, False, (11, 11, 51, 51))
    assert (dog.truncated, dog.difficult, dog.box) == (True, True, (101, 11, 120, 51))
    assert (cow.truncated, cow.difficult, cow.box) == (True, False, (1, 61, 31, 91))
    assert (sheep.truncated, sheep.difficult, sheep.box) == (True, False, (151, 71, 181, 100))
    canvas.paint('sofa', [box(0, 55, 40, 99, (200, 0, 0))])
    assert describe(canvas, 2) is None
    assert '<name>cat</name>' in annotation(2007, '000001', canvas, [cat])
    assert [presence([cat, dog], name) for name in ('cat', 'dog', 'cow')] == [1, 0, -1]


def test_some_objects_are_truncated_or_difficult():
    objects = [o for n in range(40) for o in draw_image(2007, 'train', n, (160, 120), 0)[1]]
    truncated = np.mean([item.truncated for item in objects])
    difficult = np.mean([item.difficult for item in objects])
    assert 0.05 < truncated < 0.8
    assert 0.005 < difficult < 0.3
