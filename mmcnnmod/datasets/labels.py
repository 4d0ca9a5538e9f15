"""Checks of label maps and boxes. Errors name the file, the bad value and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from ..errors import UserError

# The heads that predict the classes of the data set. Auxiliary heads may have other classes.
HEAD = re.compile(r'(module\.)?(head|decode_head|bbox_head|roi_head\.bbox_head)(\.\d+)?')


@dataclass(frozen=True)
class LabelCheck:
    """Checks the labels of an image.

    Attributes:
        classes (int | None): The number of classes; None if unknown.
        ignored (frozenset[int]): Values in a label map that mark ignored pixels.
        training (bool): Whether the boxes are used for training. Defaults to False.
        ann_file (str): The file with the boxes of all images, if any. Defaults to ''.
    """

    classes: int | None
    ignored: frozenset[int]
    training: bool = False
    ann_file: str = ''

    @classmethod
    def for_dataset(cls, dataset: object, model: object = None) -> LabelCheck:
        """Create the check for a data set.

        Args:
            dataset (object): A data set as in mmengine; not a wrapper.
            model (object, optional): The network, whose heads define which labels are ignored.
                Defaults to None.
        """
        training = not getattr(dataset, 'test_mode', False)
        model_heads = [head for _, head in heads(model)]
        ignored = {getattr(head, 'ignore_index', None) for head in model_heads} - {None}
        # The loss ignores only the heads' value; metrics ignore the data set's value as well.
        if not (ignored and training):
            ignored.add(getattr(dataset, 'ignore_index', 255))
        return cls(
            count_classes(dataset) or min((head.num_classes for head in model_heads), default=None),
            frozenset(ignored),
            training,
            getattr(dataset, 'ann_file', ''),
        )

    def check(self, results: dict) -> None:
        """Check the annotations that ``LoadAnnotations`` of mmseg or mmdet has loaded.

        Args:
            results (dict): The results of the transform. A label map that lost an axis of length 1
                gets it back.

        Raises:
            UserError: If a label map or a box is invalid.
        """
        if 'reduce_zero_label' in results and 'gt_seg_map' in results:  # a data set of mmseg
            self.check_label_map(results, results['seg_map_path'])
        if 'gt_bboxes' in results:
            self.check_boxes(results)

    def check_label_map(self, results: dict, path: str) -> None:
        """Check that a label map has one class number for each pixel of the image."""
        labels = results['gt_seg_map']
        size = results.get('ori_shape')
        if size and labels.ndim < 2 and labels.size == size[0] * size[1]:  # squeezed by mmseg
            labels = results['gt_seg_map'] = labels.reshape(size)
        if labels.ndim > 2:
            raise UserError(
                f'{path} is not a label map: it has {labels.shape[-1]} values per pixel; convert '
                'its colours to class numbers, one per pixel'
            )
        if size and labels.shape != tuple(size):
            raise UserError(
                f'{path} has {sides(labels.shape)} pixels, but its image {results.get("img_path")} '
                f'has {sides(size)} after its EXIF rotation; make them the same'
            )
        if self.classes is None:
            return
        wrong = labels >= self.classes
        for value in self.ignored:
            wrong &= labels != value
        if wrong.any():
            reduced = ' after reduce_zero_label' if results['reduce_zero_label'] else ''
            ignored = ' and '.join(map(str, sorted(self.ignored)))
            raise UserError(
                f'{path} has the value {labels[wrong][0]}{reduced}, which is none of the '
                f'{self.classes} classes (0 to {self.classes - 1}; ignored: {ignored}); correct '
                "it, or the data set's classes, reduce_zero_label or ignore_index"
            )

    def check_boxes(self, results: dict) -> None:
        """Check that boxes are finite and, in training, that each covers a part of the image."""
        boxes = np.asarray(getattr(results['gt_bboxes'], 'tensor', results['gt_bboxes']))
        if boxes.shape[1:] != (4,):  # rotated boxes
            return
        wrong = ~np.isfinite(boxes).all(1)
        if self.training and 'ori_shape' in results:
            height, width = results['ori_shape']
            inside = boxes.clip(0, [width, height, width, height])
            covers = (inside[:, 2:] > inside[:, :2]).all(1)
            ignored = results.get('gt_ignore_flags')
            wrong |= ~covers & ~(np.zeros_like(covers) if ignored is None else ignored)
        if wrong.any():
            x1, y1, x2, y2 = boxes[wrong][0].tolist()
            image = results.get('img_path')
            size = f' ({sides(results["ori_shape"])} pixels)' if 'ori_shape' in results else ''
            raise UserError(
                f'{results.get("xml_path") or self.ann_file or image}: the box from ({x1:g}, '
                f'{y1:g}) to ({x2:g}, {y2:g}) covers no part of {image}{size}; correct or remove '
                "it, or let the data set's filter_cfg ignore it (bbox_min_size=1)"
            )
        labels = np.asarray(results.get('gt_bboxes_labels', ()))
        if self.classes is not None and (labels >= self.classes).any():
            raise UserError(
                f'{self.ann_file or results.get("img_path")}: a box of {results.get("img_path")} '
                f'has the label {labels.max()}, but there are {self.classes} classes; correct it, '
                "or the data set's classes"
            )


def check_wide_labels(path: Path, mode: str) -> None:
    """Raise an error if a label map has values outside 0 to 255, which mmseg would change.

    Args:
        path (Path): The label map.
        mode (str): The mode of the image in Pillow.
    """
    if not mode.startswith(('I', 'F')):
        return
    with Image.open(path) as image:
        labels = np.asarray(image)
    if labels.min() < 0 or labels.max() > 255:
        value = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(
            f'{path} has the value {value}, but mmseg reads labels of 8 bits; number the classes '
            'from 0, and use 255 for ignored pixels'
        )


def heads(model: object) -> Iterator[tuple[str, nn.Module]]:
    """The heads that predict the classes of the data set, with their names in the model."""
    for path, module in model.named_modules() if isinstance(model, nn.Module) else ():
        count = getattr(module, 'num_classes', None)
        if HEAD.fullmatch(path) and isinstance(count, int) and count > 0:
            yield path.removeprefix('module.'), module


def count_classes(dataset: object) -> int | None:
    """The number of classes in a data set's ``metainfo``; None if there are none."""
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    return len(classes) if isinstance(classes, (list, tuple)) and classes else None


def sides(shape: tuple[int, ...]) -> str:
    """Format a shape (H, W) as '640x480', width first."""
    return 'x'.join(map(str, reversed(shape)))
