"""Data for detectors, trackers and re-identification, mostly by mmdetection's own utilities."""

from __future__ import annotations

import mmdet.datasets  # noqa: F401  (registers CLRNet's data preprocessor)
import numpy as np
import torch
from mmdet.structures import ReIDDataSample
from mmdet.testing import demo_mm_inputs, demo_mm_proposals, demo_track_inputs
from mmengine.config import Config
from mmengine.structures import BaseDataElement, PixelData

from mmcnnmod.config_types import type_name

from . import BATCH, num_classes, transforms

# The kind of data that a model takes, by its preprocessor.
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
# Crops of persons have this size only: the neck pools the whole map that 256x128 pixels give.
CROPS, CROP = 4, (256, 128)
# CLRNet's lines: the largest number, the number of heights, and the size of the map.
LINES, LINE_POINTS, LINE_MAP = 4, 72, (320, 800)


def needs(cfg: Config) -> dict:
    """The kind of data, and the annotations that the training pipeline loads."""
    used = transforms(cfg)
    loading = [used[name] for name in LOADING if name in used]
    panoptic = 'LoadPanopticAnnotations' in used
    return {
        'kind': KINDS.get(type_name(cfg.model.get('data_preprocessor') or {}), 'images'),
        'classes': num_classes(cfg, 'num_classes', 'num_things_classes'),
        'masks': panoptic or any(node.get('with_mask') for node in loading),
        'semantic': panoptic or any(node.get('with_seg') for node in loading),
        # Hybrid Task Cascade's maps are as small as the features.
        'stride': round(1 / used.get('SegRescale', {}).get('scale_factor', 1)),
        'proposals': 'LoadProposals' in used,
        'text': 'text' in used.get('PackDetInputs', {}).get('meta_keys', ()),
    }


def batch(needs: dict, training: bool) -> dict:
    """Data as the config's loader gives them."""
    torch.manual_seed(0)
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


def image_batch(needs: dict) -> dict:
    """Images with boxes, masks, label maps, proposals and captions, as far as they are needed."""
    shape = (3, needs['edge'], needs['edge'])
    data = demo_mm_inputs(
        batch_size=BATCH,
        image_shapes=[shape] * BATCH,
        num_items=[BOXES] * BATCH,
        # It draws labels from 1 on, so that 1 is subtracted below.
        num_classes=needs['classes'] + 1,
        with_mask=needs['masks'],
        with_semantic=needs['semantic'],
        sem_seg_output_strides=needs['stride'],
        texts=['a bird . a cat .'] * BATCH if needs['text'] else None,
    )
    for sample in data['data_samples']:
        sample.gt_instances.labels -= 1
        # Soft Teacher takes boxes from one branch to another by this matrix.
        unmoved = np.eye(3, dtype=np.float32)
        sample.set_metainfo(dict(img_path='', scale_factor=(1.0, 1.0), homography_matrix=unmoved))
        if needs['semantic']:
            sample.gt_sem_seg.sem_seg %= needs['classes']
    if needs['proposals']:
        for sample in data['data_samples']:
            (sample.proposals,) = demo_mm_proposals([shape], PROPOSALS)
    return data


def track_batch(needs: dict, training: bool) -> dict:
    """One video of two frames; for training the first is the key frame, the other its reference."""
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
    """Crops of persons, two of each."""
    crops = torch.randint(256, (CROPS, 3, *CROP), dtype=torch.uint8)
    sample = ReIDDataSample(metainfo=dict(img_shape=CROP))
    sample.set_gt_label(torch.arange(CROPS) // 2 % needs['classes'])
    return {'inputs': [crops], 'data_samples': [sample]}


def line_batch(needs: dict) -> dict:
    """Images with one upright lane line, as CLRNet's arrays and label maps have it."""
    image = torch.randint(256, (3, needs['edge'], needs['edge']), dtype=torch.uint8)
    lines = torch.zeros(LINES, 6 + LINE_POINTS)
    # Scores of background and line; start y, start x, angle, length; then x for each y.
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
