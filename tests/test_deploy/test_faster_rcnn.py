"""An exported Faster R-CNN returns the boxes of mmdetection's predict, at every size."""

import functools
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmcnnmod.ops import fold_batch_norms

pytest.importorskip('mmdet')
from mmdet.structures import DetDataSample

from mmcnnmod.deploy.exported_file import HEIGHT, WIDTH
from mmcnnmod.deploy.faster_rcnn import FasterRCNN, unsupported
from mmcnnmod.deploy.substitution import substituted

CONFIG = Path(__file__).resolve().parents[2] / 'configs/faster-rcnn_r18-mod_fpn_bccd.py'
TRACED = (64, 96)
SIZES = [(64, 96), (128, 64)]
SMALL = {
    'backbone.base_channels': 16,
    'backbone.stem_channels': 16,
    'neck.in_channels': [16, 32, 64, 128],
    'neck.out_channels': 32,
    'rpn_head.in_channels': 32,
    'rpn_head.feat_channels': 32,
    'roi_head.bbox_roi_extractor.out_channels': 32,
    'roi_head.bbox_head.in_channels': 32,
    'roi_head.bbox_head.fc_out_channels': 64,
    'test_cfg.rpn.max_per_img': 100,
}


@functools.cache
def read_config(base):
    return Config.fromstring(f"_base_ = '{base}'", '.py')


def build(base=CONFIG, small=SMALL, **options):
    """Build a narrow detector."""
    cfg = deepcopy(read_config(base))
    cfg.merge_from_dict({f'model.{key}': value for key, value in {**small, **options}.items()})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(cfg.model)
    fold_batch_norms(detector)
    return detector


@torch.no_grad()
def spread_scores(detector):
    """Scale the last layers, because boxes with nearly equal scores have no definite order."""

    def scale(deviation):
        def hook(layer, inputs, outputs):
            values = outputs.transpose(0, 1).flatten(1)
            factor = deviation / values.std(1)
            layer.bias.copy_((layer.bias - values.mean(1)) * factor)
            layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
            handles.pop(layer).remove()
            return layer(*inputs)

        return hook

    rpn, head = detector.rpn_head, detector.roi_head.bbox_head
    layers = {rpn.rpn_cls: 1, rpn.rpn_reg: 0.5, head.fc_cls: 3, head.fc_reg: 0.5}
    handles = {layer: layer.register_forward_hook(scale(by)) for layer, by in layers.items()}
    predicted(detector, random_image(TRACED))
    rpn.rpn_cls.bias -= 2  # far from 1, near which float32 is coarse
    head.fc_cls.bias[-1] += 4  # background
    return detector


def random_image(size, seed=0):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def predicted(detector, images):
    size = tuple(images.shape[2:])
    names = ('img_shape', 'ori_shape', 'batch_input_shape', 'pad_shape')
    sample = DetDataSample(metainfo={**dict.fromkeys(names, size), 'scale_factor': (1.0, 1.0)})
    found = detector.predict(images, [sample], rescale=False)[0].pred_instances
    return arrays((found.bboxes, found.scores, found.labels))


def arrays(outputs):
    return [each.numpy() for each in outputs]


@torch.no_grad()
def run_eager(detector, images):
    return arrays(FasterRCNN(detector)(images))


def write_detector(write, detector, name):
    return write(FasterRCNN(detector), name, dynamic=(HEIGHT, WIDTH), size=TRACED)


@pytest.fixture(scope='module')
def detector():
    return spread_scores(build())


@pytest.fixture(scope='module', params=['torchscript', 'onnx', 'openvino'])
def exported(detector, write, request):
    return write_detector(write, detector, request.param)


def assert_same_boxes(found, expected):
    assert [x.dtype for x in found] == [np.float32, np.float32, np.int64]
    assert min(len(found[1]), len(expected[1])) > 0
    assert (np.diff(found[1]) <= 0).all()
    # Tolerances: 0.01 pixels, a score of 0.001, the same label.
    rows, others = (np.column_stack([b * 100, s * 1000, n * 9]) for b, s, n in (found, expected))
    same = abs(rows[:, None] - others).max(2) < 1
    # A few boxes may differ: NMS keeps others if two boxes are swapped.
    assert same.any(0).mean() > 0.9
    assert same.any(1).mean() > 0.9


@pytest.mark.parametrize('size', SIZES)
def test_boxes_are_those_of_mmdetection(detector, exported, size):
    for seed in (1, 2):
        images = random_image(size, seed)
        expected = predicted(detector, images)
        assert set(expected[2]) == {0, 1, 2}
        assert_same_boxes(run_eager(detector, images), expected)
        assert_same_boxes(arrays(exported(images)[0].values()), expected)


def test_onnx_graph_has_no_custom_operators(exported):
    if exported.path.suffix != '.onnx':
        pytest.skip('other formats have their own operators')
    nodes = pytest.importorskip('onnx').load(exported.path).graph.node
    assert {node.domain for node in nodes} == {''}
    kinds = [node.op_type for node in nodes]
    assert kinds.count('NonMaxSuppression') == 2
    assert kinds.count('RoiAlign') == 4
    assert 'ScatterND' not in kinds


@pytest.mark.parametrize('name', ['torchscript', 'onnx', 'openvino'])
def test_image_without_boxes(write, name):
    """The traced image is smaller than min_bbox_size, so that there are no proposals either."""
    detector = build(**{'test_cfg.rpn.min_bbox_size': TRACED[0]})
    detector.roi_head.bbox_head.fc_cls.bias.data[-1] = 100
    file = write_detector(write, detector, name)
    for size in (TRACED, (128, 128)):
        images = random_image(size)
        assert len(predicted(detector, images)[1]) == 0
        for outputs in (run_eager(detector, images), file(images)[0].values()):
            assert [tuple(each.shape) for each in outputs] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize(
    'options',
    [
        {
            'test_cfg.rpn.nms_pre': 100,  # some levels have fewer anchors, others more
            'test_cfg.rpn.max_per_img': 50,
            'test_cfg.rpn.nms.iou_threshold': 0.4,
            'test_cfg.rcnn.score_thr': 0.3,
            'test_cfg.rcnn.nms.iou_threshold': 0.8,
            'test_cfg.rcnn.max_per_img': 5,
        },
        {
            'test_cfg.rpn.nms_pre': -1,
            'test_cfg.rpn.min_bbox_size': 8,
            'test_cfg.rcnn.nms.split_thr': 20,
            'test_cfg.rcnn.max_per_img': -1,
        },
        {
            'rpn_head.loss_cls.use_sigmoid': False,
            'rpn_head.bbox_coder.clip_border': False,
            'rpn_head.anchor_generator.scales': [2, 8],
            'rpn_head.anchor_generator.ratios': [1.0],
            'roi_head.bbox_head.type': 'Shared4Conv1FCBBoxHead',
            'roi_head.bbox_head.conv_out_channels': 16,
            'roi_head.bbox_head.bbox_coder.target_means': [0.2, 0.0, 0.1, 0.0],
            'roi_head.bbox_head.reg_class_agnostic': True,
            'roi_head.bbox_roi_extractor.finest_scale': 14,
            'roi_head.bbox_roi_extractor.roi_layer.sampling_ratio': 2,
            'roi_head.bbox_roi_extractor.roi_layer.aligned': False,
        },
        {'roi_head.bbox_roi_extractor.featmap_strides': [4]},
    ],
    ids=['test_cfg', 'no limits', 'heads', 'one level'],
)
def test_supported_settings(options):
    detector = spread_scores(build(**options))
    assert unsupported(detector) is None
    images = random_image(TRACED, 1)
    assert_same_boxes(run_eager(detector, images), predicted(detector, images))


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'roi_head.type': 'PISARoIHead'}, 'roi_head is PISARoIHead, not StandardRoIHead'),
        (
            {'roi_head.bbox_roi_extractor.roi_layer.pool_mode': 'max'},
            'roi_head.bbox_roi_extractor.roi_layers.0.pool_mode is max, not avg',
        ),
        (
            {'roi_head.bbox_head.bbox_coder.type': 'LegacyDeltaXYWHBBoxCoder'},
            'roi_head.bbox_head.bbox_coder is LegacyDeltaXYWHBBoxCoder, not DeltaXYWHBBoxCoder',
        ),
        (
            {'test_cfg.rcnn.nms.type': 'soft_nms'},
            "roi_head.test_cfg.nms is {'type': 'soft_nms', 'iou_threshold': 0.5}, "
            'not nms with an iou_threshold alone',
        ),
        (
            {'test_cfg.rpn.nms.max_num': 9},
            "rpn_head.test_cfg.nms is {'type': 'nms', 'iou_threshold': 0.7, 'max_num': 9}, "
            'not nms with an iou_threshold alone',
        ),
    ],
)
def test_unsupported_settings(options, reason):
    assert unsupported(build(**options)) == reason


@pytest.mark.parametrize(
    ('base', 'reason'),
    [
        ('retinanet_r50_fpn', 'the detector is RetinaNet, not FasterRCNN'),
        ('mask-rcnn_r50_fpn', 'the detector is MaskRCNN, not FasterRCNN'),
    ],
)
def test_unsupported_detectors(base, reason):
    small = {'backbone.depth': 18, 'neck.in_channels': [64, 128, 256, 512]}
    assert unsupported(build(f'mmdet::_base_/models/{base}.py', small)) == reason


def test_unsupported_mask_head():
    detector = build()
    detector.roi_head.mask_head = torch.nn.Identity()
    assert unsupported(detector) == 'roi_head.with_mask is True, not False'


def test_substituted_file_predicts_in_pixels_of_the_original_image(detector, write):
    """The image was scaled by 0.5 and 2, and padded."""
    images = random_image(TRACED)
    shapes = dict.fromkeys(('batch_input_shape', 'pad_shape'), TRACED)
    meta = dict(shapes, img_shape=(64, 90), ori_shape=(32, 180), scale_factor=(0.5, 2.0))
    file = write_detector(write, detector, 'torchscript')
    with substituted(detector, file):
        found = detector.predict(images, [DetDataSample(metainfo=meta)])[0].pred_instances
    assert 'predict' not in vars(detector)
    boxes, scores, labels = file(images)[0].values()
    assert (found.scores == scores).all()
    assert (found.labels == labels).all()
    torch.testing.assert_close(found.bboxes[:, 2], boxes[:, 2].clamp(max=90) / 0.5)
    torch.testing.assert_close(found.bboxes[:, 3], boxes[:, 3] / 2.0)
