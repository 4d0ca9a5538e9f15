"""What is known of built data sets before an image is loaded."""

from __future__ import annotations

from ..datasets import unwrap_dataset
from ..datasets.labels import count_classes, heads
from ..errors import UserError
from .errors import NO_IMAGES


def check_labels(dataset: object, model: object) -> None:
    """Fail if a data set has no image, or a label that the network's head does not have.

    Args:
        dataset (object): A loader's data set, of mmengine's kind.
        model (object): The network that gets its images.
    """
    inner = unwrap_dataset(dataset)
    if len(dataset) == 0:
        raise UserError(f'{describe(inner[0])}: {NO_IMAGES}')
    # What an annotation file lists counts: ImageNet has more names than a part of it has labels.
    labels = [listed_labels(part) for part in inner]
    classes = None if any(labels) else count_classes(dataset)
    for path, head in heads(model):
        last = head.num_classes - 1
        if classes is not None and classes > head.num_classes:
            raise UserError(
                f'{describe(inner[0])} has {classes} classes and model.{path}.num_classes is '
                f'{head.num_classes}; set it to {classes}, or take classes out of the data set'
            )
        for part, listed in zip(inner, labels, strict=True):
            wrong = [label for label in listed if not 0 <= label <= last]
            if wrong:
                raise UserError(
                    f'{describe(part)} has the label {wrong[0]} and model.{path}.num_classes is '
                    f'{head.num_classes}, for labels from 0 to {last}; correct one of them'
                )


def listed_labels(dataset: object) -> set[int]:
    """The labels in a classifier's annotation file; those that are folders' positions are right."""
    if not (hasattr(dataset, 'get_gt_labels') and getattr(dataset, 'ann_file', '')):
        return set()
    try:
        return {int(label) for i in range(len(dataset)) for label in dataset.get_cat_ids(i)}
    except KeyError:  # without labels
        return set()


def describe(dataset: object) -> str:
    """What a data set is and where it lies, such as 'CustomDataset of data/train'."""
    prefix = getattr(dataset, 'data_prefix', None) or {}
    folders = [prefix] if isinstance(prefix, str) else list(prefix.values())
    known = (getattr(dataset, 'ann_file', ''), *folders, getattr(dataset, 'data_root', ''))
    where = next((f' of {each}' for each in known if each), '')
    return f'the {type(dataset).__name__}{where}'
