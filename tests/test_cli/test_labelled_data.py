"""The images of a split with their labels, and the choice of classes."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from mmcnnmod.cli.config import innermost_datasets
from mmcnnmod.cli.labelled_data import LabelledData, choose_classes, choose_split
from mmcnnmod.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = ('tench, Tinca tinca', 'church, church building', 'crane', 'pug, pug-dog', 'crane')
ALL = range(len(NAMES))


@pytest.mark.parametrize(
    ('toolbox', 'config', 'count'),
    [
        ('mmpretrain', 'resnet18-mod_cifar10-folder.py', 1),
        ('mmdet', 'faster-rcnn_r50-mod_fpn_voc0712.py', 2),
    ],
)
def test_training_images_are_not_augmented(toolbox, config, count):
    pytest.importorskip(toolbox)
    cfg = Config.fromfile(CONFIGS / config)
    test_loader = cfg.test_dataloader
    files = [
        (each.data_prefix, each.get('ann_file'))
        for each in innermost_datasets(cfg.train_dataloader)
    ]
    choose_split(cfg, 'train')
    chosen = list(innermost_datasets(cfg.test_dataloader))
    assert len(chosen) == count
    assert [(each.data_prefix, each.get('ann_file')) for each in chosen] == files
    assert all(each.pipeline == test_loader.dataset.pipeline for each in chosen)
    assert cfg.test_dataloader.batch_size == test_loader.batch_size


def test_dataset_without_class_names_raises():
    dataset = dict(type=BaseDataset, lazy_init=True)
    cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
    with pytest.raises(UserError, match=r'config cfg\.py: .*metainfo=dict\(classes=\.\.\.\)'):
        LabelledData(cfg, 'cfg.py')


@pytest.mark.parametrize(
    ('wanted', 'classes'),
    [
        (['pug'], [3]),
        (['Church Building', 'tench, tinca tinca'], [1, 0]),
        (['4', '2'], [4, 2]),
        (['pug', 'pug-dog', '3'], [3]),
    ],
)
def test_choose_classes_by_name_or_number(wanted, classes):
    assert choose_classes(wanted, NAMES, ALL) == classes


def test_choose_the_classes_of_the_paper():
    """Those in docs/channel_usage.md."""
    categories = pytest.importorskip('mmpretrain.datasets.categories').IMAGENET_CATEGORIES
    wanted = ['airliner', 'trailer truck', 'church', 'cliff', 'pug']
    assert choose_classes(wanted, categories, range(1000)) == [404, 867, 497, 972, 254]
    assert 'carpenter' in categories[choose_classes(['plane'], categories, range(1000))[0]]


def test_default_classes_are_spread_over_the_list():
    assert choose_classes(None, NAMES, [1, 3]) == [1, 3]
    assert choose_classes(None, NAMES, [2]) == [2]
    names = [str(i) for i in range(1000)]
    assert choose_classes(None, names, range(1000)) == [0, 250, 500, 749, 999]


@pytest.mark.parametrize(
    ('wanted', 'occurring', 'words'),
    [
        ('crane', ALL, 'several classes are called crane; use a number: 2, 4'),
        ('chuch', ALL, 'did you mean church'),
        ('building', ALL, 'did you mean church building'),
        ('aardvark', ALL, 'this data set has no class aardvark; there are tench, Tinca tinca'),
        ('5', ALL, 'has no class 5'),
        ('pug', [0, 1], 'no image contains pug, pug-dog'),
        ('pug', [], 'these images contain no class'),
    ],
)
def test_choose_classes_errors(wanted, occurring, words):
    with pytest.raises(UserError, match=words):
        choose_classes([wanted], NAMES, occurring)
