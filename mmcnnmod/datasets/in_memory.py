"""A data set of small images in memory, so that a GPU does not wait for files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, FUNCTIONS
from torch import Tensor
from torch.utils.data import Dataset

from ..deprecation import renamed_from
from ..errors import UserError
from ..files import atomic_write
from .loading import name_unreadable_files


@DATASETS.register_module()
@renamed_from(DATASETS, 'ResidentDataset')
class InMemoryDataset(Dataset):
    """A classification data set that is read once and kept in memory as one tensor.

    It returns whole batches, without an object for each image. Its loader needs
    ``collate_fn=dict(type='whole_batch')`` and ``num_workers=0``. Use it with
    :class:`InMemoryDataPreprocessor`, which augments and normalises on the device. CIFAR-10 takes
    154 MB.

    Args:
        dataset (dict): The config of a data set of mmpretrain. Its pipeline loads and packs the
            images (``LoadImageFromFile`` for files, ``PackInputs``) without random changes. All
            images must have the same size.
        classes (Sequence[str], optional): Keep only these classes, numbered in this order.
            Defaults to None, all.
        per_class (int, optional): Keep this many images of each class, the first ones. Defaults to
            None, all.
        cache_dir (str, optional): Cache the images in a file in this folder for the next run. The
            name of the file depends on the data set's config and the images' paths; remove the
            folder if the content of images changes. Defaults to None.

    Raises:
        UserError: If an image cannot be read or differs in size from the first, or a class is
            unknown or has fewer than ``per_class`` images.
    """

    def __init__(
        self,
        dataset: dict,
        classes: Sequence[str] | None = None,
        per_class: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        start = time.monotonic()
        self.dataset = DATASETS.build(dataset)
        name_unreadable_files(self.dataset)
        known = self.dataset.metainfo['classes']
        self.metainfo = {**self.dataset.metainfo, 'classes': tuple(classes or known)}
        positions, self.labels = select(
            np.asarray(self.dataset.get_gt_labels()), known, self.metainfo['classes'], per_class
        )
        if cache_dir is None:
            self.images = self._read(positions)
        else:
            self.images = self._read_cached(positions, Path(cache_dir), repr(dataset))
        MMLogger.get_current_instance().info(
            f'{len(self)} images in memory, {self.images.nbytes / 1e6:.0f} MB, read in '
            f'{time.monotonic() - start:.1f} s'
        )

    def _read_cached(self, positions: np.ndarray, folder: Path, config: str) -> Tensor:
        names = [self.dataset.get_data_info(int(i)).get('img_path', i) for i in positions]
        key = hashlib.sha256(f'{config} {names}'.encode()).hexdigest()[:16]
        path = folder / f'{key}.npy'
        if path.exists():
            return torch.from_numpy(np.load(path))
        images = self._read(positions)
        with atomic_write(path) as partial:
            np.save(partial, images.numpy())
        return images

    def _read(self, positions: np.ndarray) -> Tensor:
        images = None
        for i, position in enumerate(positions):
            image = self.dataset[int(position)]['inputs']
            if images is None:
                images = image.new_empty((len(positions), *image.shape))
            if image.shape != images.shape[1:]:
                raise UserError(
                    f'InMemoryDataset: image {int(position)} has shape {tuple(image.shape)}, but '
                    f'the first has {tuple(images.shape[1:])}; add a Resize to the pipeline'
                )
            images[i] = image
        return images

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict:
        """A batch of one image."""
        return self.__getitems__([i])

    def __getitems__(self, indices: Sequence[int]) -> dict:
        """A batch. torch's loader calls this once per batch instead of loading each image.

        Args:
            indices (Sequence[int]): N indices of images.

        Returns:
            dict: 'inputs', uint8, shape (N, 3, H, W), and 'labels', int64, shape (N,).
        """
        indices = torch.as_tensor(indices)
        return dict(inputs=self.images[indices], labels=self.labels[indices])


@FUNCTIONS.register_module()
def whole_batch(batch: dict) -> dict:
    """The collate function for a data set that returns whole batches; it does nothing."""
    return batch


def select(
    labels: np.ndarray, known: Sequence[str], classes: Sequence[str], per_class: int | None
) -> tuple[np.ndarray, Tensor]:
    """Select the images to keep.

    Args:
        labels (np.ndarray): The labels of all images, shape (N,).
        known (Sequence[str]): The names of all classes, in the order of their labels.
        classes (Sequence[str]): The classes to keep, in the order of their new labels.
        per_class (int, optional): How many images per class; None for all.

    Returns:
        tuple[np.ndarray, Tensor]: The sorted positions of the selected images, and their new
        labels, int64, both of shape (M,).

    Raises:
        UserError: If a class is unknown or has too few images.
    """
    new_labels = np.full(len(labels), -1)
    for i, name in enumerate(classes):
        if name not in known:
            raise UserError(
                f'InMemoryDataset: there is no class {name!r}; choose from {", ".join(known)}'
            )
        found = np.flatnonzero(labels == list(known).index(name))
        if per_class is not None and len(found) < per_class:
            raise UserError(
                f'InMemoryDataset: class {name!r} has {len(found)} images, per_class={per_class}'
            )
        new_labels[found[:per_class]] = i
    positions = np.flatnonzero(new_labels >= 0)
    return positions, torch.from_numpy(new_labels[positions])
