import json

import cv2
import numpy as np
import pytest
from PIL import Image
from synthetic.cityscapes import draw_scene, truth_maps

# Written down again here, so that a slip in the tool's table shows.
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
    """The files of every scene, by kind."""
    found = []
    for picture in sorted((city / 'leftImg8bit').rglob('*.png')):
        split, town, name = picture.parts[-3:]
        stem = name.removesuffix('_leftImg8bit.png')
        truth = city / 'gtFine' / split / town
        frame = {'picture': np.array(Image.open(picture))}
        for kind in ('labelIds', 'labelTrainIds', 'instanceIds', 'color'):
            frame[kind] = np.array(Image.open(truth / f'{stem}_gtFine_{kind}.png'))
        frame['polygons'] = json.loads((truth / f'{stem}_gtFine_polygons.json').read_text())
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
        assert frame['picture'].shape == (80, 160, 3)
        assert frame['picture'].dtype == np.uint8
        assert frame['color'].shape == (80, 160, 4)
        assert (frame['color'][..., 3] == 255).all()
        for kind in ('labelIds', 'labelTrainIds'):
            assert frame[kind].shape == (80, 160)
            assert frame[kind].dtype == np.uint8


def test_label_ids_are_known_and_train_ids_follow(frames):
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


def test_polygons_painted_in_order_give_the_label_pictures(frames):
    for frame in frames:
        labels, instances, counts = np.zeros((80, 160)), np.zeros((80, 160)), {}
        assert (frame['polygons']['imgHeight'], frame['polygons']['imgWidth']) == (80, 160)
        for item in frame['polygons']['objects']:
            number = NAMES[item['label']]
            value = number
            if number in THINGS:
                value = number * 1000 + counts.get(number, 0)
                counts[number] = counts.get(number, 0) + 1
            cv2.fillPoly(labels, [np.array(item['polygon'])], number)
            cv2.fillPoly(instances, [np.array(item['polygon'])], value)
        assert np.array_equal(labels, frame['labelIds'])
        assert np.array_equal(instances, frame['instanceIds'])


def test_colour_tells_sky_from_road(frames):
    """The truth belongs to the picture: what is called sky is brighter and bluer than road."""
    for frame in frames:
        sky, road = (frame['picture'][frame['labelIds'] == n].mean(0) for n in (23, 7))
        assert sky[2] > road[2] + 30


def test_every_class_is_common_and_large_enough():
    present, large = np.zeros(19), np.zeros(19)
    for number in range(50):
        values = truth_maps(draw_scene('train', number, (160, 80), seed=0))['labelTrainIds']
        shares = np.bincount(values.ravel(), minlength=256)[:19] / values.size
        present += shares > 0
        large += shares > 0.002
    assert (present >= 0.15 * 50).all(), present
    assert (large >= 0.15 * 50).all(), large


def test_a_scene_depends_on_seed_split_and_number_only():
    first = draw_scene('train', 4, (96, 48), seed=1)
    draw_scene('train', 5, (96, 48), seed=1)
    again = draw_scene('train', 4, (96, 48), seed=1)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.owner, again.owner)
    for other in (('train', 4, 2), ('val', 4, 1), ('train', 5, 1)):
        split, number, seed = other
        assert not np.array_equal(first.image, draw_scene(split, number, (96, 48), seed).image)


@pytest.mark.parametrize('size', [(64, 32), (90, 200), (400, 64)])
def test_any_size(size):
    canvas = draw_scene('train', 0, size, seed=0)
    assert canvas.image.shape == (size[1], size[0], 3)
    assert (canvas.owner >= 0).all()


def test_same_arguments_same_bytes(make_set, files_of):
    arguments = ('--train', 2, '--val', 1, '--size', '96x48', '--seed')
    first, again, other = (make_set('cityscapes', *arguments, seed) for seed in (5, 5, 6))
    assert files_of(first) == files_of(again)
    pictures = {k: v for k, v in files_of(first).items() if k.endswith('leftImg8bit.png')}
    changed = files_of(other)
    assert len(pictures) == 3
    assert all(changed[name] != data for name, data in pictures.items())
