"""Loading that names the file which cannot be read, and takes no half image for a whole one."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import UserError, cause
from .labels import LabelCheck, check_wide_labels

# How complete files of the usual formats end.
END_MARKERS = (b'\xff\xd9', b'IEND\xaeB`\x82')
TAIL_BYTES = 64


class CheckedLoading:
    """Wraps a loading transform: a missing, damaged or truncated file is an error by its name.

    OpenCV decodes what is there of a truncated JPEG and paints the rest grey, so that training
    goes on with damaged images. Here the end of the file is looked at, and only if it is not
    that of a complete file, Pillow, which is strict, decodes it once more and decides.

    Pillow also reads the header beforehand: OpenCV takes gigabytes for a file of some bytes that
    claims to be large. The limit is Pillow's own, twice ``PIL.Image.MAX_IMAGE_PIXELS``: 179 million
    pixels.

    Args:
        transform (Callable): A toolbox's transform, such as ``LoadImageFromFile`` or
            ``LoadAnnotations``.
        labels (LabelCheck, optional): What label maps and boxes are compared with. Defaults to
            None, nothing.
    """

    def __init__(self, transform: Callable, labels: LabelCheck | None = None) -> None:
        self.transform = transform
        self.labels = labels

    def __call__(self, results: dict) -> dict | None:
        """Load.

        Args:
            results (dict): With 'img_path', and 'seg_map_path' where there are label maps.

        Returns:
            dict: What the wrapped transform returns.

        Raises:
            UserError: If the file is missing, truncated, too large or of another kind, or if the
                labels are of no use.
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
                'replace it or take it out of the data set'
            ) from problem
        return loaded

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.transform!r})'


class NamedStep:
    """Wraps any other transform: an image that it cannot do is an error by the image's name.

    Such as one of 1x3000 pixels, which scaled to a height of 300 has no width.

    Args:
        transform (Callable): A toolbox's transform.
    """

    def __init__(self, transform: Callable) -> None:
        self.transform = transform

    def __call__(self, results: dict) -> dict | None:
        """Transform.

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
                f'{type(self.transform).__name__} fails at {results["img_path"]} '
                f'({cause(problem)}); change its settings, or take the image out of the data set'
            ) from problem

    def __repr__(self) -> str:
        return repr(self.transform)


def name_unreadable_files(dataset: object, model: object = None) -> None:
    """Wrap the transforms of a built data set, and of those inside it, in place.

    Args:
        dataset (object): A data set of mmengine's kind: with ``pipeline.transforms``, ``dataset``
            or ``datasets``.
        model (object, optional): The network that gets the images; its head knows which labels it
            ignores. Defaults to None.
    """
    for inner in (getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or [])):
        if inner is not None:
            name_unreadable_files(inner, model)
    pipeline = getattr(dataset, 'pipeline', None)
    transforms = getattr(pipeline, 'transforms', None) or []
    for i, transform in enumerate(transforms):
        if type(transform).__name__.startswith('Load'):
            transforms[i] = CheckedLoading(transform, LabelCheck.of(dataset, model))
        elif not isinstance(transform, (CheckedLoading, NamedStep)):
            transforms[i] = NamedStep(transform)


def read_header(path: Path) -> str | None:
    """What Pillow calls the pixels of an image, None if it does not know the kind of file.

    Raises:
        PIL.Image.DecompressionBombError: If the image claims to be too large.
    """
    try:
        with Image.open(path) as image:
            return image.mode
    except UnidentifiedImageError:  # OpenCV knows some more; what is damaged it refuses as well
        return None


def verify_end(path: Path) -> None:
    """Raise an OSError if an image file is truncated."""
    with path.open('rb') as file:
        file.seek(-min(TAIL_BYTES, path.stat().st_size), io.SEEK_END)
        tail = file.read()
    if not any(marker in tail for marker in END_MARKERS):
        with Image.open(path) as image:
            image.load()
