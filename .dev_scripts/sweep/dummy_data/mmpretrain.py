"""Data for classifiers, retrievers and self-supervised learning."""

from __future__ import annotations

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmpretrain.structures import DataSample

from mmcnnmod.config_types import type_name

from . import BATCH, num_classes, transforms


def needs(cfg: Config) -> dict:
    """How many classes there are, whether an image has several, and how many views it has."""
    views = transforms(cfg).get('MultiView', {}).get('num_views', 1)
    preprocessor = type_name(cfg.model.get('data_preprocessor') or {})
    head = type_name(cfg.model.get('head') or {})
    return {
        'classes': num_classes(cfg, 'num_classes'),
        'several': head.startswith('MultiLabel') or head == 'CSRAClsHead',
        'views': sum(views) if isinstance(views, (list, tuple)) else views,
        # Self-supervised models have this preprocessor by default.
        'labels': preprocessor != 'SelfSupDataPreprocessor' and views == 1,
    }


def batch(needs: dict, training: bool) -> dict:
    """Images with labels, or views without."""
    return default_collate([item(needs) for _ in range(BATCH)])


def item(needs: dict) -> dict:
    """An image or its views, and its label."""
    size = (3, needs['edge'], needs['edge'])
    views = [torch.randint(256, size, dtype=torch.uint8) for _ in range(needs['views'])]
    sample = DataSample(metainfo=dict(img_shape=size[1:]))
    if not needs['labels']:
        return {'inputs': views, 'data_samples': sample}
    label = int(torch.randint(needs['classes'], ()))
    sample.set_gt_label([label] if needs['several'] else label)
    return {'inputs': views[0], 'data_samples': sample}
