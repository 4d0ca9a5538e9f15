"""The data of a split, with labels."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from mmcnnmod.cli.labelled_data import LabelledData, choose_split
from mmcnnmod.cli.preflight import innermost_datasets
from mmcnnmod.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize(
    ('toolbox', 'config', 'sets'),
    [
        ('mmpretrain', 'resnet18-mod_cifar10-folder.py', 1),
        ('mmdet', 'faster-rcnn_r50-mod_fpn_voc0712.py', 2),
    ],
)
def test_training_images_are_not_augmented(toolbox, config, sets):
    pytest.importorskip(toolbox)
    cfg = Config.fromfile(CONFIGS / config)
    testing = cfg.test_dataloader
    trained = [(each.data_prefix, each.get('ann_file'))
               for each in innermost_datasets(cfg.train_dataloader)]  # fmt: skip
    choose_split(cfg, 'train')
    chosen = list(innermost_datasets(cfg.test_dataloader))
    assert len(chosen) == sets
    assert [(each.data_prefix, each.get('ann_file')) for each in chosen] == trained
    assert all(each.pipeline == testing.dataset.pipeline for each in chosen)
    assert cfg.test_dataloader.batch_size == testing.batch_size


def test_a_data_set_without_names_of_classes():
    dataset = dict(type=BaseDataset, lazy_init=True)
    cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
    with pytest.raises(UserError, match=r'config cfg\.py: .*metainfo=dict\(classes=\.\.\.\)'):
        LabelledData(cfg, 'cfg.py')
