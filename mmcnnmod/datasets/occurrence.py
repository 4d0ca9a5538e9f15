"""Which classes occur in which images, asked of the data sets of any of the toolboxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import numpy as np

from ..errors import UserError
from .loading import CheckedLoading


def unwrap_dataset(dataset: object) -> list:
    """The data sets inside a built one's wrappers (repeated, concatenated), each of them once.

    Args:
        dataset (object): A data set of mmengine's kind.

    Returns:
        list: Those that hold the images; ``[dataset]`` if it is no wrapper.
    """
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        return [dataset]
    return [innermost for part in inner for innermost in unwrap_dataset(part)]


def class_reader(dataset: object) -> Callable[[int], set[int]]:
    """A function that tells which classes occur in an image, without reading the image.

    A classifier's data set has the label of each image and a detector's has its boxes; of a
    segmentor's the label map is read by the pipeline's own ``LoadAnnotations``, so that label maps
    and ``reduce_zero_label`` apply.

    Args:
        dataset (object): A data set that is no wrapper.

    Returns:
        Callable[[int], set[int]]: From an image's position to its classes. It raises a
        :class:`UserError` where there are no labels.
    """
    classes = range(len(dataset.metainfo['classes']))
    load = next(
        (step for step in dataset.pipeline.transforms if 'Annotations' in type(step).__name__),
        None,
    )

    def read(position: int) -> set[int]:
        try:
            labels = dataset.get_cat_ids(position)
        except (NotImplementedError, KeyError):  # what mmengine's base class and no label raise
            info = dataset.get_data_info(position)
            if load is None or 'seg_map_path' not in info:
                raise UserError(
                    f'{info.get("img_path", "an image")} has no label, so its class is not known; '
                    'choose another --split'
                ) from None
            labels = np.unique(CheckedLoading(load)(info)['gt_seg_map']).tolist()
        return {int(label) for label in labels if label in classes}

    return read


def draw_images(occurring: Iterable[set[int]], per_class: int, seed: int) -> dict[int, list[int]]:
    """Draw images of each class; one that shows several classes may be drawn for several.

    Args:
        occurring (Iterable[set[int]]): The classes that occur in each image.
        per_class (int): How many to draw, or all where there are fewer.
        seed (int): Of the random choice.

    Returns:
        dict[int, list[int]]: The positions of the images drawn for each class that occurs.
    """
    images = {}
    for position, classes in enumerate(occurring):
        for i in classes:
            images.setdefault(i, []).append(position)
    random = Random(seed)
    return {i: random.sample(images[i], min(per_class, len(images[i]))) for i in sorted(images)}
