"""Dummy data: noise as images, with the annotations that a config's pipeline would load.

For each toolbox one function reads from a config what its data must contain, and another makes a
batch of such data.
"""

from __future__ import annotations

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.structures import BaseDataElement, PixelData
from torch import nn

from mmcnnmod.config_types import type_name
from mmcnnmod.swap.backbone_refs import iter_dicts

BATCH = 2
GALLERY = 4
IGNORED = 255
# The kinds of data for mmdetection's models, by data preprocessor; any other takes 'images'.
KINDS = {
    'TrackDataPreprocessor': 'track',
    'MultiBranchDataPreprocessor': 'branches',
    'ReIDDataPreprocessor': 'reid',
    'LineDetDataProcessor': 'lines',
}
BRANCHES = ('sup', 'unsup_teacher', 'unsup_student')
LOADING = ('LoadAnnotations', 'LoadPanopticAnnotations', 'LoadTrackAnnotations')
BOXES = 4
PROPOSALS = 50
FRAMES = 2
# Crops of persons must have this size: the neck pools the whole feature map of 256x128 pixels.
CROPS, CROP = 4, (256, 128)
# CLRNet's lines: the largest number, the number of heights, and the size of the label map.
LINES, LINE_POINTS, LINE_MAP = 4, 72, (320, 800)


def needs(cfg: Config, edge: int) -> dict:
    """What the data of a config must contain, as JSON."""
    own = {'mmpretrain': classifier_needs, 'mmseg': segmentor_needs, 'mmdet': detector_needs}
    toolbox = cfg.default_scope
    return {'toolbox': toolbox, 'edge': edge, **own[toolbox](cfg)}


def batch(needs: dict, training: bool) -> dict:
    """A batch as a data loader returns it."""
    torch.manual_seed(0)
    if needs['toolbox'] == 'mmpretrain':
        return default_collate([classifier_sample(needs) for _ in range(BATCH)])
    if needs['toolbox'] == 'mmseg':
        return segmentor_batch(needs)
    if needs['kind'] == 'track':
        return track_batch(needs, training)
    if needs['kind'] == 'reid':
        return reid_batch(needs)
    if needs['kind'] == 'lines':
        return line_batch(needs)
    if needs['kind'] == 'branches' and training:
        return {
            key: {branch: image_batch(needs)[key] for branch in BRANCHES}
            for key in ('inputs', 'data_samples')
        }
    return image_batch(needs)


def prepare_model(model: nn.Module) -> None:
    """Give mmpretrain's retrievers features to compare with, instead of a gallery of images."""
    if hasattr(model, 'prototype'):
        model.prototype = torch.rand(GALLERY, model.head.in_channels)


def transforms(cfg: Config) -> dict[str, dict]:
    """All transforms of the training data by name, including nested ones."""
    nodes = [node for _, node, _ in iter_dicts(cfg.get('train_dataloader') or {}, '')]
    return {type_name(node): node for node in nodes if 'type' in node}


def num_classes(cfg: Config, *keys: str) -> int:
    """The smallest positive number of the keys in the model, or 1."""
    values = [node.get(key) for _, node, _ in iter_dicts(cfg.model, '') for key in keys]
    lists = [value if isinstance(value, (list, tuple)) else [value] for value in values]
    return min((n for values in lists for n in values if isinstance(n, int) and n > 0), default=1)


def noise(*size: int) -> torch.Tensor:
    """A random image."""
    return torch.randint(256, (3, *size), dtype=torch.uint8)


def classifier_needs(cfg: Config) -> dict:
    """The number of classes, whether images have several labels or none, the number of views."""
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


def classifier_sample(needs: dict) -> dict:
    """An image with its label, or the views of an image without a label."""
    from mmpretrain.structures import DataSample

    size = (needs['edge'], needs['edge'])
    views = [noise(*size) for _ in range(needs['views'])]
    sample = DataSample(metainfo=dict(img_shape=size))
    if not needs['labels']:
        return {'inputs': views, 'data_samples': sample}
    label = int(torch.randint(needs['classes'], ()))
    sample.set_gt_label([label] if needs['several'] else label)
    return {'inputs': views[0], 'data_samples': sample}


def segmentor_needs(cfg: Config) -> dict:
    """The number of classes."""
    return {'classes': num_classes(cfg, 'num_classes')}


def segmentor_batch(needs: dict) -> dict:
    """Images with label maps of 8x8 blocks and some ignored pixels."""
    from mmseg.structures import SegDataSample

    size = (needs['edge'], needs['edge'])
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=1.0, flip=False)
    meta.update(reduce_zero_label=False, img_path='')
    samples = []
    for _ in range(BATCH):
        blocks = torch.randint(needs['classes'], (1, needs['edge'] // 8, needs['edge'] // 8))
        labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
        labels[:, :2] = IGNORED
        samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels)))
    return {'inputs': [noise(*size)] * BATCH, 'data_samples': samples}


def detector_needs(cfg: Config) -> dict:
    """The kind of data, and the annotations that the training pipeline loads."""
    import mmdet.datasets  # noqa: F401  (registers CLRNet's data preprocessor)

    used = transforms(cfg)
    loading = [used[name] for name in LOADING if name in used]
    panoptic = 'LoadPanopticAnnotations' in used
    return {
        'kind': KINDS.get(type_name(cfg.model.get('data_preprocessor') or {}), 'images'),
        'classes': num_classes(cfg, 'num_classes', 'num_things_classes'),
        'masks': panoptic or any(node.get('with_mask') for node in loading),
        'semantic': panoptic or any(node.get('with_seg') for node in loading),
        # The label maps of Hybrid Task Cascade have the size of the features.
        'stride': round(1 / used.get('SegRescale', {}).get('scale_factor', 1)),
        'proposals': 'LoadProposals' in used,
        'text': 'text' in used.get('PackDetInputs', {}).get('meta_keys', ()),
    }


def image_batch(needs: dict) -> dict:
    """Images with boxes and, if needed, masks, label maps, proposals and captions."""
    from mmdet.testing import demo_mm_inputs, demo_mm_proposals

    shape = (3, needs['edge'], needs['edge'])
    data = demo_mm_inputs(
        batch_size=BATCH,
        image_shapes=[shape] * BATCH,
        num_items=[BOXES] * BATCH,
        num_classes=needs['classes'] + 1,  # it draws labels from 1 on
        with_mask=needs['masks'],
        with_semantic=needs['semantic'],
        sem_seg_output_strides=needs['stride'],
        texts=['a bird . a cat .'] * BATCH if needs['text'] else None,
    )
    for sample in data['data_samples']:
        sample.gt_instances.labels -= 1
        # Soft Teacher maps boxes between branches with the homography matrix.
        unmoved = np.eye(3, dtype=np.float32)
        sample.set_metainfo(dict(img_path='', scale_factor=(1.0, 1.0), homography_matrix=unmoved))
        if needs['semantic']:
            sample.gt_sem_seg.sem_seg %= needs['classes']
        if needs['proposals']:
            (sample.proposals,) = demo_mm_proposals([shape], PROPOSALS)
    return data


def track_batch(needs: dict, training: bool) -> dict:
    """A video of two frames; for training, a key frame and its reference frame."""
    from mmdet.testing import demo_track_inputs

    data = demo_track_inputs(
        batch_size=1,
        num_frames=FRAMES,
        key_frames_inds=[0] if training else None,
        image_shapes=(3, needs['edge'], needs['edge']),
        num_items=[BOXES],
        num_classes=needs['classes'],
        with_mask=needs['masks'],
    )
    for sample in data['data_samples']:
        for frame in sample.video_data_samples:
            frame.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    return data


def reid_batch(needs: dict) -> dict:
    """Crops of persons, two of each person."""
    from mmdet.structures import ReIDDataSample

    crops = torch.stack([noise(*CROP) for _ in range(CROPS)])
    sample = ReIDDataSample(metainfo=dict(img_shape=CROP))
    sample.set_gt_label(torch.arange(CROPS) // 2 % needs['classes'])
    return {'inputs': [crops], 'data_samples': [sample]}


def line_batch(needs: dict) -> dict:
    """Images with one vertical lane line, in the format of CLRNet."""
    image = noise(needs['edge'], needs['edge'])
    lines = torch.zeros(LINES, 6 + LINE_POINTS)
    # The scores of background and line; start y, start x, angle, length; then x for each y.
    lines[0, :6] = torch.tensor([0, 1, 0, 0.5, 0.5, LINE_POINTS])
    lines[0, 6:] = LINE_MAP[1] / 2
    sample = BaseDataElement(
        metainfo=dict(img_shape=image.shape[1:]),
        lines_array=lines.numpy(),
        org_height=LINE_MAP[0],
        org_width=LINE_MAP[1],
        gt_sem_seg=PixelData(sem_seg=torch.ones(1, *LINE_MAP, dtype=torch.long)),
    )
    return {'inputs': [image] * BATCH, 'data_samples': [sample.clone() for _ in range(BATCH)]}
