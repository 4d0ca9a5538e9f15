import json
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image
from synthetic.cityscapes import draw_scene, label_maps

# Written down independently of the table in the generator.
IDS = """
    road 7, sidewalk 8, building 11, wall 12, fence 13, pole 17, traffic light 19,
    traffic sign 20, vegetation 21, terrain 22, sky 23, person 24, rider 25, car 26, truck 27,
    bus 28, train 31, motorcycle 32, bicycle 33
"""
PAIRS = [item.split() for item in IDS.split(',')]
NAMES = {' '.join(words): int(number) for *words, number in PAIRS}
TRAIN_IDS = {number: train_id for train_id, number in enumerate(NAMES.values())}
NAMES['ego vehicle'] = 1
THINGS = {24, 25, 26, 27, 28, 31, 32, 33}
COLOURS = {7: (128, 64, 128), 11: (70, 70, 70), 23: (70, 130, 180), 24: (220, 20, 60)}
COLOURS |= {26: (0, 0, 142), 31: (0, 80, 100), 21: (107, 142, 35), 33: (119, 11, 32)}


@pytest.fixture(scope='module')
def city(make_set):
    return make_set('cityscapes', '--train', 7, '--val', 2, '--size', '160x80')


@pytest.fixture(scope='module')
def frames(city):
    """The contents of all files of each scene."""
    found = []
    for path in sorted((city / 'leftImg8bit').rglob('*.png')):
        split, town, name = path.parts[-3:]
        stem = name.removesuffix('_leftImg8bit.png')
        labels = city / 'gtFine' / split / town
        frame = {'image': np.array(Image.open(path))}
        for kind in ('labelIds', 'labelTrainIds', 'instanceIds', 'color'):
            frame[kind] = np.array(Image.open(labels / f'{stem}_gtFine_{kind}.png'))
        frame['polygons'] = json.loads((labels / f'{stem}_gtFine_polygons.json').read_text())
        found.append(frame)
    return found


def test_layout(city):
    expected = {'generated.json'}
    towns = {'train': ['erlenbruck', 'lindenhafen', 'nordwalde'], 'val': ['sonnenfurt']}
    for split, count in (('train', 7), ('val', 2)):
        for n in range(count):
            town = towns[split][n % len(towns[split])]
            stem = f'{split}/{town}/{town}_{n:06d}_000019'
            expected.add(f'leftImg8bit/{stem}_leftImg8bit.png')
            for kind in ('labelIds', 'labelTrainIds', 'instanceIds', 'color'):
                expected.add(f'gtFine/{stem}_gtFine_{kind}.png')
            expected.add(f'gtFine/{stem}_gtFine_polygons.json')
    found = {p.relative_to(city).as_posix() for p in city.rglob('*') if p.is_file()}
    assert found == expected


def test_sizes_and_types(frames):
    assert len(frames) == 9
    for frame in frames:
        assert frame['image'].shape == (80, 160, 3)
        assert frame['image'].dtype == np.uint8
        assert frame['color'].shape == (80, 160, 4)
        assert (frame['color'][..., 3] == 255).all()
        for kind in ('labelIds', 'labelTrainIds'):
            assert frame[kind].shape == (80, 160)
            assert frame[kind].dtype == np.uint8


def test_train_ids_match_label_ids(frames):
    table = np.full(256, 255)
    table[list(TRAIN_IDS)] = list(TRAIN_IDS.values())
    for frame in frames:
        assert set(np.unique(frame['labelIds'])) <= set(NAMES.values())
        assert np.array_equal(frame['labelTrainIds'], table[frame['labelIds']])


def test_colours_are_the_official_ones(frames):
    seen = set()
    for frame in frames:
        for number, colour in COLOURS.items():
            pixels = frame['color'][frame['labelIds'] == number]
            seen |= {number} if len(pixels) else set()
            assert (pixels[:, :3] == colour).all()
    assert seen == set(COLOURS)


def test_polygons_painted_in_order_give_the_label_maps(frames):
    for frame in frames:
        labels, instances, counts = np.zeros((80, 160)), np.zeros((80, 160)), Counter()
        assert (frame['polygons']['imgHeight'], frame['polygons']['imgWidth']) == (80, 160)
        for item in frame['polygons']['objects']:
            number = NAMES[item['label']]
            value = number
            if number in THINGS:
                value = number * 1000 + counts[number]
                counts[number] += 1
            cv2.fillPoly(labels, [np.array(item['polygon'])], number)
            cv2.fillPoly(instances, [np.array(item['polygon'])], value)
        assert np.array_equal(labels, frame['labelIds'])
        assert np.array_equal(instances, frame['instanceIds'])


def test_annotation_matches_the_image(frames):
    """Pixels with the label sky are bluer than those with the label road."""
    for frame in frames:
        sky, road = (frame['image'][frame['labelIds'] == n].mean(0) for n in (23, 7))
        assert sky[2] > road[2] + 30


def test_every_class_is_frequent_and_large_enough():
    present, large = np.zeros(19), np.zeros(19)
    for number in range(50):
        values = label_maps(draw_scene('train', number, (160, 80), seed=0))['labelTrainIds']
        shares = np.bincount(values.ravel(), minlength=256)[:19] / values.size
        present += shares > 0
        large += shares > 0.002
    assert (present >= 0.15 * 50).all(), present
    assert (large >= 0.15 * 50).all(), large


@pytest.mark.parametrize('size', [(64, 32), (90, 200), (400, 64)])
def test_any_size(size):
    canvas = draw_scene('train', 0, size, seed=0)
    assert canvas.image.shape == (size[1], size[0], 3)
    assert (canvas.owner >= 0).all()
