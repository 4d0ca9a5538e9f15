"""Which classes occur in which images of a data set of any toolbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import numpy as np

from ..errors import UserError
from .loading import CheckedLoading


def unwrap_dataset(dataset: object) -> list:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset, each of them once.

    Args:
        dataset (object): A data set as in mmengine.

    Returns:
        list: The data sets with the images; ``[dataset]`` if it is not a wrapper.
    """
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        return [dataset]
    return [innermost for part in inner for innermost in unwrap_dataset(part)]


def class_reader(dataset: object) -> Callable[[int], set[int]]:
    """Create a function that finds the classes in an image, without reading the image.

    For classification and detection, the data set has the labels. For segmentation, the label map
    is read with the pipeline's ``LoadAnnotations``, so its ``label_map`` and ``reduce_zero_label``
    apply.

    Args:
        dataset (object): A data set; not a wrapper.

    Returns:
        Callable[[int], set[int]]: Maps the index of an image to its classes. It raises a
        :class:`UserError` if the image has no labels.
    """
    classes = range(len(dataset.metainfo['classes']))
    load = next(
        (step for step in dataset.pipeline.transforms if 'Annotations' in type(step).__name__),
        None,
    )

    def read(position: int) -> set[int]:
        try:
            labels = dataset.get_cat_ids(position)
        except (NotImplementedError, KeyError):  # mmengine's base class, or no label
            info = dataset.get_data_info(position)
            if load is None or 'seg_map_path' not in info:
                raise UserError(
                    f'{info.get("img_path", "an image")} has no label, so its class is unknown; '
                    'choose another --split'
                ) from None
            labels = np.unique(CheckedLoading(load)(info)['gt_seg_map']).tolist()
        return {int(label) for label in labels if label in classes}

    return read


def draw_images(occurring: Iterable[set[int]], per_class: int, seed: int) -> dict[int, list[int]]:
    """Draw images of each class. An image with several classes may be drawn several times.

    Args:
        occurring (Iterable[set[int]]): The classes that occur in each image.
        per_class (int): How many to draw per class; all if there are fewer.
        seed (int): The seed of the random choice.

    Returns:
        dict[int, list[int]]: The indices of the images drawn for each class that occurs.
    """
    images = {}
    for position, classes in enumerate(occurring):
        for i in classes:
            images.setdefault(i, []).append(position)
    random = Random(seed)
    return {i: random.sample(images[i], min(per_class, len(images[i]))) for i in sorted(images)}
