"""Image loading that does not take half an image for a whole one."""

from __future__ import annotations

import io
from pathlib import Path

from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS
from PIL import Image

from ..errors import UserError

# How complete files of the usual formats end.
END_MARKERS = (b'\xff\xd9', b'IEND\xaeB`\x82')
TAIL_BYTES = 64


@TRANSFORMS.register_module()
class LoadCompleteImageFromFile(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile``, which refuses a truncated or unreadable file by name.

    OpenCV decodes what is there of a truncated JPEG and paints the rest grey, so that training
    goes on with damaged images. Here the end of the file is looked at, and only if it is not
    that of a complete file, Pillow, which is strict, decodes it once more and decides.
    """

    def transform(self, results: dict) -> dict | None:
        """Load the image.

        Args:
            results (dict): With 'img_path'.

        Returns:
            dict: As :class:`mmcv.transforms.LoadImageFromFile`.

        Raises:
            UserError: If the file is missing, truncated or no image.
        """
        path = Path(results['img_path'])
        try:
            loaded = super().transform(results)
            if path.is_file():
                verify_end(path)
        except Exception as problem:
            cause = ' '.join(str(problem).split())
            raise UserError(
                f'image {path} cannot be read ({cause}); replace it or take it out of the data set'
            ) from problem
        return loaded


def verify_end(path: Path) -> None:
    """Raise an OSError if an image file is truncated."""
    with path.open('rb') as file:
        file.seek(-min(TAIL_BYTES, path.stat().st_size), io.SEEK_END)
        tail = file.read()
    if not any(marker in tail for marker in END_MARKERS):
        with Image.open(path) as image:
            image.load()
