"""Data for segmentors."""

from __future__ import annotations

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from . import BATCH, num_classes

IGNORED = 255


def needs(cfg: Config) -> dict:
    """How many classes the label maps have."""
    return {'classes': num_classes(cfg, 'num_classes')}


def batch(needs: dict, training: bool) -> dict:
    """Images and label maps with some ignored pixels."""
    samples = [sample(needs['classes'], needs['edge']) for _ in range(BATCH)]
    inputs = [torch.randint(256, (3, needs['edge'], needs['edge']), dtype=torch.uint8)] * BATCH
    return {'inputs': inputs, 'data_samples': samples}


def sample(classes: int, edge: int) -> SegDataSample:
    """A label map of blocks of 8x8 pixels."""
    blocks = torch.randint(classes, (1, edge // 8, edge // 8))
    labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, :2] = IGNORED
    size = (edge, edge)
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=1.0, flip=False)
    return SegDataSample(
        metainfo={**meta, 'reduce_zero_label': False, 'img_path': ''},
        gt_sem_seg=PixelData(data=labels),
    )
