"""Finds the classes in the images of a data set of any toolbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import numpy as np

from ..errors import UserError
from .loading import CheckedLoading, inner_datasets


def unwrap_dataset(dataset: object) -> list:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset, each of them once.

    Args:
        dataset (object): A data set or wrapper as in mmengine.

    Returns:
        list: The data sets with the images; ``[dataset]`` if it is not a wrapper.
    """
    inner = inner_datasets(dataset)
    return [leaf for part in inner for leaf in unwrap_dataset(part)] if inner else [dataset]


def class_reader(dataset: object) -> Callable[[int], set[int]]:
    """Create a function that finds the classes in an image, without reading the image.

    For classification and detection, the data set contains the labels. For segmentation, the
    pipeline's ``LoadAnnotations`` reads the label map, with its ``label_map`` and
    ``reduce_zero_label``.

    Args:
        dataset (object): A data set; not a wrapper.

    Returns:
        Callable[[int], set[int]]: Maps the index of an image to its classes. Raises a
        :class:`UserError` if the image has no labels.
    """
    classes = range(len(dataset.metainfo['classes']))
    load = next(
        (step for step in dataset.pipeline.transforms if 'Annotations' in type(step).__name__),
        None,
    )

    def read(index: int) -> set[int]:
        try:
            labels = dataset.get_cat_ids(index)
        except (NotImplementedError, KeyError):  # mmengine's base class, or no label
            info = dataset.get_data_info(index)
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
        per_class (int): How many images to draw per class, or all if there are fewer.
        seed (int): The seed of the random choice.

    Returns:
        dict[int, list[int]]: The indices of the images drawn for each class that occurs.
    """
    images = {}
    for index, classes in enumerate(occurring):
        for i in classes:
            images.setdefault(i, []).append(index)
    random = Random(seed)
    return {i: random.sample(images[i], min(per_class, len(images[i]))) for i in sorted(images)}
