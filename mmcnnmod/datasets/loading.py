"""Loading images and annotations, with errors that name the file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import UserError, cause
from .labels import LabelCheck, check_wide_labels

# The last bytes of complete JPEG and PNG files.
END_MARKERS = (b'\xff\xd9', b'IEND\xaeB`\x82')
TAIL_BYTES = 64


class CheckedLoading:
    """Wraps a loading transform so that a missing, damaged or truncated file is an error.

    OpenCV fills the missing part of a truncated JPEG with grey, so training would use damaged
    images. If a file does not end with the marker of its format, Pillow decodes it again, because
    Pillow raises an error for truncated files.

    Pillow reads the header before OpenCV decodes the file, because OpenCV allocates gigabytes for a
    tiny file whose header gives a large size. The limit is twice ``PIL.Image.MAX_IMAGE_PIXELS``,
    179 million pixels.

    Args:
        transform (Callable): A toolbox's transform, such as ``LoadImageFromFile`` or
            ``LoadAnnotations``.
        labels (LabelCheck, optional): Checks label maps and boxes. Defaults to None, no check.
    """

    def __init__(self, transform: Callable, labels: LabelCheck | None = None) -> None:
        self.transform = transform
        self.labels = labels

    def __call__(self, results: dict) -> dict | None:
        """Load an image or its annotations.

        Args:
            results (dict): With 'img_path', and 'seg_map_path' if there are label maps.

        Returns:
            dict: The result of the wrapped transform.

        Raises:
            UserError: If the file is missing, truncated, too large or of another format, or if
                the labels are invalid.
        """
        name = type(self.transform).__name__
        loads_image = 'Image' in name
        labels = self.labels if name == 'LoadAnnotations' else None
        path = results.get('img_path') if loads_image else results.get('seg_map_path')
        try:
            is_file = isinstance(path, (str, Path)) and Path(path).is_file()
            mode = read_header(Path(path)) if is_file else None
            if mode and labels and 'reduce_zero_label' in results:
                check_wide_labels(Path(path), mode)
            loaded = self.transform(results)
            if loads_image and is_file:
                verify_end(Path(path))
            if labels and loaded:
                labels.check(loaded)
        except UserError:
            raise
        except Exception as problem:
            raise UserError(
                f'{path or results.get("img_path")} cannot be read ({cause(problem)}); '
                'replace it or remove it from the data set'
            ) from problem
        return loaded

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.transform!r})'


class NamedStep:
    """Wraps any other transform so that errors name the image.

    For example, resizing an image of 1x3000 pixels to a height of 300 fails.

    Args:
        transform (Callable): A toolbox's transform.
    """

    def __init__(self, transform: Callable) -> None:
        self.transform = transform

    def __call__(self, results: dict) -> dict | None:
        """Transform an image.

        Raises:
            UserError: If the transform fails.
        """
        try:
            return self.transform(results)
        except UserError:
            raise
        except Exception as problem:
            if not isinstance(results, dict) or 'img_path' not in results:
                raise
            raise UserError(
                f'{type(self.transform).__name__} fails on {results["img_path"]} '
                f'({cause(problem)}); change its settings, or remove the image from the data set'
            ) from problem

    def __repr__(self) -> str:
        return repr(self.transform)


def name_unreadable_files(dataset: object, model: object = None) -> None:
    """Wrap the transforms of a data set, and of the data sets inside it, in place.

    Args:
        dataset (object): A data set or wrapper as in mmengine.
        model (object, optional): The network, whose heads define which labels are ignored.
            Defaults to None.
    """
    for inner in inner_datasets(dataset):
        name_unreadable_files(inner, model)
    pipeline = getattr(dataset, 'pipeline', None)
    transforms = getattr(pipeline, 'transforms', None) or []
    for i, transform in enumerate(transforms):
        if type(transform).__name__.startswith('Load'):
            transforms[i] = CheckedLoading(transform, LabelCheck.for_dataset(dataset, model))
        elif not isinstance(transform, (CheckedLoading, NamedStep)):
            transforms[i] = NamedStep(transform)


def inner_datasets(dataset: object) -> list:
    """The data sets directly inside a wrapper such as ConcatDataset; none for other data sets."""
    inner = [getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or [])]
    return [part for part in inner if part is not None]


def read_header(path: Path) -> str | None:
    """Pillow's mode of an image; None if Pillow cannot read the format.

    Raises:
        PIL.Image.DecompressionBombError: If the size in the header is too large.
    """
    try:
        with Image.open(path) as image:
            return image.mode
    except UnidentifiedImageError:  # OpenCV reads more formats; it raises an error if damaged
        return None


def verify_end(path: Path) -> None:
    """Raise an OSError if an image file is truncated."""
    with path.open('rb') as file:
        file.seek(-min(TAIL_BYTES, path.stat().st_size), io.SEEK_END)
        tail = file.read()
    if not any(marker in tail for marker in END_MARKERS):
        with Image.open(path) as image:
            image.load()
