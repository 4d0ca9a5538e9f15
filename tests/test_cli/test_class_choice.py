"""Choosing classes by name, by number, or a few of them."""

import pytest

from mmcnnmod.cli.class_choice import choose_classes
from mmcnnmod.errors import UserError

NAMES = ('tench, Tinca tinca', 'church, church building', 'crane', 'pug, pug-dog', 'crane')
ALL = range(len(NAMES))


@pytest.mark.parametrize(
    ('wanted', 'classes'),
    [
        (['pug'], [3]),
        (['Church Building', 'tench, tinca tinca'], [1, 0]),
        (['4', '2'], [4, 2]),
        (['pug', 'pug-dog', '3'], [3]),
    ],
)
def test_by_name_or_number(wanted, classes):
    assert choose_classes(wanted, NAMES, ALL) == classes


def test_the_classes_of_the_paper():
    """As docs/channel_usage.md has them."""
    categories = pytest.importorskip('mmpretrain.datasets.categories').IMAGENET_CATEGORIES
    wanted = ['airliner', 'trailer truck', 'church', 'cliff', 'pug']
    assert choose_classes(wanted, categories, range(1000)) == [404, 867, 497, 972, 254]
    assert 'carpenter' in categories[choose_classes(['plane'], categories, range(1000))[0]]


def test_some_by_default():
    assert choose_classes(None, NAMES, [1, 3]) == [1, 3]
    assert choose_classes(None, NAMES, [2]) == [2]
    names = [str(i) for i in range(1000)]
    assert choose_classes(None, names, range(1000)) == [0, 250, 500, 749, 999]


@pytest.mark.parametrize(
    ('wanted', 'occurring', 'words'),
    [
        ('crane', ALL, 'several classes are called crane; give a number, 2, 4'),
        ('chuch', ALL, 'did you mean church'),
        ('building', ALL, 'did you mean church building'),
        ('aardvark', ALL, 'aardvark is no class of this data; there are tench, Tinca tinca'),
        ('5', ALL, '5 is no class'),
        ('pug', [0, 1], 'pug, pug-dog occurs in none'),
        ('pug', [], 'no class occurs in these images'),
    ],
)
def test_errors(wanted, occurring, words):
    with pytest.raises(UserError, match=words):
        choose_classes([wanted], NAMES, occurring)
