"""Loading that names the file which cannot be read, and takes no half image for a whole one."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ..errors import UserError

# How complete files of the usual formats end.
END_MARKERS = (b'\xff\xd9', b'IEND\xaeB`\x82')
TAIL_BYTES = 64


class CheckedLoading:
    """Wraps a loading transform: a missing, damaged or truncated file is an error by its name.

    OpenCV decodes what is there of a truncated JPEG and paints the rest grey, so that training
    goes on with damaged images. Here the end of the file is looked at, and only if it is not
    that of a complete file, Pillow, which is strict, decodes it once more and decides.

    Args:
        transform (Callable): A toolbox's transform, such as ``LoadImageFromFile`` or
            ``LoadAnnotations``.
    """

    def __init__(self, transform: Callable) -> None:
        self.transform = transform

    def __call__(self, results: dict) -> dict | None:
        """Load.

        Args:
            results (dict): With 'img_path', and 'seg_map_path' where there are label maps.

        Returns:
            dict: What the wrapped transform returns.

        Raises:
            UserError: If the file is missing, truncated or of another kind.
        """
        loads_image = 'Image' in type(self.transform).__name__
        path = results.get('img_path') if loads_image else results.get('seg_map_path')
        try:
            loaded = self.transform(results)
            if loads_image and path and Path(path).is_file():
                verify_end(Path(path))
        except Exception as problem:
            cause = ' '.join(str(problem).split())
            raise UserError(
                f'{path or results.get("img_path")} cannot be read ({cause}); '
                'replace it or take it out of the data set'
            ) from problem
        return loaded

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.transform!r})'


def name_unreadable_files(dataset: object) -> None:
    """Wrap the loading transforms of a built data set, and of those inside it, in place.

    Args:
        dataset (object): A data set of mmengine's kind: with ``pipeline.transforms``, ``dataset``
            or ``datasets``.
    """
    for inner in (getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or [])):
        if inner is not None:
            name_unreadable_files(inner)
    pipeline = getattr(dataset, 'pipeline', None)
    transforms = getattr(pipeline, 'transforms', None) or []
    for i, transform in enumerate(transforms):
        if type(transform).__name__.startswith('Load'):
            transforms[i] = CheckedLoading(transform)


def verify_end(path: Path) -> None:
    """Raise an OSError if an image file is truncated."""
    with path.open('rb') as file:
        file.seek(-min(TAIL_BYTES, path.stat().st_size), io.SEEK_END)
        tail = file.read()
    if not any(marker in tail for marker in END_MARKERS):
        with Image.open(path) as image:
            image.load()
