"""mmdetection's Faster R-CNN in operators that can be exported."""

from __future__ import annotations

import math
from operator import attrgetter

import torch
from mmcv.ops import RoIAlign
from mmdet.models import dense_heads, detectors, roi_heads
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision import ops

from .parts import Outputs, Part, Replacements, Run

# Supported values of a detector's attributes. Subclasses are excluded: they may compute something
# else.
SUPPORTED = {
    '__class__': (detectors.FasterRCNN,),
    'rpn_head.__class__': (dense_heads.RPNHead,),
    'rpn_head.prior_generator.__class__': (AnchorGenerator,),
    'rpn_head.prior_generator.use_box_type': (False,),
    'rpn_head.bbox_coder.__class__': (DeltaXYWHBBoxCoder,),
    'rpn_head.bbox_coder.add_ctr_clamp': (False,),
    'roi_head.__class__': (roi_heads.StandardRoIHead,),
    'roi_head.with_mask': (False,),
    'roi_head.with_shared_head': (False,),
    'roi_head.bbox_roi_extractor.__class__': (roi_heads.SingleRoIExtractor,),
    'roi_head.bbox_roi_extractor.roi_layers.0.__class__': (RoIAlign,),
    'roi_head.bbox_roi_extractor.roi_layers.0.pool_mode': ('avg',),
    'roi_head.bbox_head.__class__': (
        roi_heads.Shared2FCBBoxHead,
        roi_heads.Shared4Conv1FCBBoxHead,
        roi_heads.ConvFCBBoxHead,
    ),
    'roi_head.bbox_head.custom_cls_channels': (False,),  # else its loss computes the scores
    'roi_head.bbox_head.with_cls': (True,),
    'roi_head.bbox_head.with_reg': (True,),
    'roi_head.bbox_head.bbox_coder.__class__': (DeltaXYWHBBoxCoder,),
    'roi_head.bbox_head.bbox_coder.add_ctr_clamp': (False,),
}
MAX_LOG_RATIO = abs(math.log(16 / 1000))  # the default of wh_ratio_clip, which no head changes


def unsupported(model: nn.Module) -> str | None:
    """Why :class:`FasterRCNN` does not support a detector, in one line; None if it does."""
    for name, allowed in SUPPORTED.items():
        found = attrgetter(name)(model)
        if found not in allowed:
            name = name.removesuffix('__class__').rstrip('.') or 'the detector'
            found, wanted = (getattr(x, '__name__', x) for x in (found, allowed[0]))
            return f'{name} is {found}, not {wanted}'
    for name in ('rpn_head', 'roi_head'):
        nms = dict(getattr(model, name).test_cfg.nms or {})
        nms.pop('split_thr', None)  # changes the use of memory, not the result
        if nms.get('type') != 'nms' or set(nms) != {'type', 'iou_threshold'}:
            return f'{name}.test_cfg.nms is {nms}, not nms with an iou_threshold alone'
    return None


class FasterRCNN(Part):
    """The predictions of a Faster R-CNN for one image, of any size, in operators of ONNX opset 16.

    The same as ``model.predict`` with ``rescale=False`` for an image without padding. Supports
    models for which :func:`unsupported` returns None.
    """

    names = ('boxes', 'scores', 'labels')
    one_image = True

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect objects.

        Args:
            images (Tensor): Shape (1, 3, H, W), normalised.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Boxes of shape (n, 4), x1 y1 x2 y2 in pixels of the
            image, scores of shape (n,) and labels of shape (n,), int64; highest score first.
        """
        maps = self.model.extract_feat(images)
        limits = torch.cat([images.new_full((1,), images.shape[axis]) for axis in (3, 2, 3, 2)])
        return self.classify(maps, self.propose(maps, limits), limits)

    def replacements(self, run: Run) -> Replacements:
        """See :class:`Part`."""

        def predict(images: Tensor, samples: list, rescale: bool = True) -> list:
            results = []
            for image, sample in zip(images, samples, strict=True):
                boxes, scores, labels = run(image[None]).values()
                # mmdetection clips to the image, the file to the padded image.
                height, width = sample.img_shape[:2]
                boxes = boxes.minimum(boxes.new_tensor([width, height] * 2))
                if rescale:
                    boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
                results.append(InstanceData(bboxes=boxes, scores=scores, labels=labels))
            return self.model.add_pred_to_datasample(samples, results)

        return [(self.model, 'predict', predict)]

    def differences(self, expected: Outputs, found: Outputs) -> dict[str, float]:
        """As :class:`Part`, for matched boxes and their scores; empty if there are none."""
        boxes, scores, matched = match_boxes(expected, found)
        if not matched.any():
            return {}
        return {'boxes': boxes[matched].max().item(), 'scores': scores[matched].max().item()}

    def unmatched(self, expected: Outputs, found: Outputs) -> tuple[int, int]:
        """See :class:`Part`; NMS may keep either of two boxes with nearly equal scores."""
        most = max(len(expected['boxes']), len(found['boxes']))
        return most, most - int(match_boxes(expected, found)[2].sum())

    def propose(self, maps: tuple[Tensor, ...], limits: Tensor) -> Tensor:
        """The proposals, shape (n, 4), in pixels; ``limits`` is W H W H."""
        head, cfg = self.model.rpn_head, self.model.rpn_head.test_cfg
        outputs = head(maps)
        sizes = [x.shape[-2:] for x in outputs[0]]
        priors = head.prior_generator.grid_priors(sizes, limits.dtype, limits.device)
        last = cfg.nms_pre if cfg.get('nms_pre', -1) > 0 else None
        levels = []
        for level, (scores, deltas, anchors) in enumerate(zip(*outputs, priors, strict=True)):
            scores = scores[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
            scores = (scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1))[:, 0]
            # Not topk, which fails on levels with fewer anchors than nms_pre.
            scores, order = (x[:last] for x in scores.sort(descending=True))
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)[order]
            boxes = decode(head.bbox_coder, anchors[order], deltas, limits)
            levels.append((boxes, scores, torch.full_like(order, level)))
        boxes, scores, groups = (torch.cat(parts) for parts in zip(*levels, strict=True))
        if cfg.get('min_bbox_size', -1) >= 0:
            kept = indices(((boxes[:, 2:] - boxes[:, :2]) > cfg.min_bbox_size).all(1))
            boxes, scores, groups = boxes[kept], scores[kept], groups[kept]
        return boxes[suppress(boxes, scores, groups, cfg)]

    def classify(self, maps: tuple[Tensor, ...], boxes: Tensor, limits: Tensor) -> tuple:
        """The outputs of :meth:`compute`, from the proposals."""
        extractor, head = self.model.roi_head.bbox_roi_extractor, self.model.roi_head.bbox_head
        cfg = self.model.roi_head.test_cfg
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)
        levels = extractor.map_roi_levels(rois, extractor.num_inputs)
        # From here on the rows are ordered by level: restoring their order would need a ScatterND.
        parts = [rois[indices(levels == level)] for level in range(extractor.num_inputs)]
        pooled = [
            ops.roi_align(
                x, part, layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
            )
            for x, part, layer in zip(maps, parts, extractor.roi_layers, strict=False)
        ]
        scores, deltas = head(torch.cat(pooled))
        # (n, classes, 4), or one box for all classes
        deltas = deltas.reshape(-1, 1 if head.reg_class_agnostic else head.num_classes, 4)
        boxes = decode(head.bbox_coder, torch.cat(parts)[:, None, 1:], deltas, limits)
        boxes = boxes.expand(-1, head.num_classes, -1).reshape(-1, 4)
        scores = scores.softmax(-1)[:, :-1].reshape(-1)
        kept = indices(scores > cfg.score_thr)
        boxes, scores, labels = boxes[kept], scores[kept], kept % head.num_classes
        kept = suppress(boxes, scores, labels, cfg)
        return boxes[kept], scores[kept], labels[kept]


def match_boxes(expected: Outputs, found: Outputs) -> tuple[Tensor, Tensor, Tensor]:
    """Match the boxes of two sides one to one, the nearest with the same label first.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Of each pair, shape (pairs,): the distance of the boxes as a
        share of the largest coordinate, the difference of the scores, and whether it is the same
        box, for which both are below 1%.
    """
    largest = max(
        [x['boxes'].abs().max().item() for x in (expected, found) if len(x['boxes'])] or [1]
    )
    boxes = torch.cdist(expected['boxes'], found['boxes'], p=float('inf')) / largest
    scores = (expected['scores'][:, None] - found['scores']).abs()
    wrong_label = expected['labels'][:, None] != found['labels']
    pairs = linear_sum_assignment((boxes + scores + 1e3 * wrong_label).numpy())
    boxes, scores, wrong_label = (each[pairs] for each in (boxes, scores, wrong_label))
    return boxes, scores, (boxes < 0.01) & (scores < 0.01) & ~wrong_label


def decode(coder: DeltaXYWHBBoxCoder, boxes: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Move and scale boxes by deltas; the coder's own ``decode`` cannot be exported.

    Boxes and deltas have shape (..., 4); boxes are x1 y1 x2 y2 in pixels, ``limits`` is W H W H.
    """
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = (boxes[..., :2] + boxes[..., 2:]) * 0.5 + sides * deltas[..., :2]
    halves = sides * deltas[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() * 0.5
    boxes = torch.cat([centres - halves, centres + halves], -1)
    return torch.minimum(boxes.clamp(min=0), limits) if coder.clip_border else boxes


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, cfg: dict) -> Tensor:
    """The indices that NMS keeps within each group, highest score first."""
    # The offsets of the groups are mmcv's, for the same rounding. The zeros are for the maximum of
    # no boxes.
    step = torch.cat([boxes, boxes.new_zeros(1, 4)]).max() + 1
    kept = ops.nms(boxes + (groups * step)[:, None], scores, cfg.nms.iou_threshold)
    return kept[: cfg.max_per_img] if cfg.max_per_img > 0 else kept


def indices(mask: Tensor) -> Tensor:
    """The indices where a mask of shape (N,) is true."""
    return mask.nonzero().squeeze(1)
