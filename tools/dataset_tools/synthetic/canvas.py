"""A picture and its truth, made by one list of painted objects.

Both the colours and the owner of every pixel are set by the same call with the same mask, so the
picture and whatever is derived from the owners can never disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .shapes import Part, bounds

NOBODY = -1
"""Owner of the pixels that no object was painted on."""


@dataclass(frozen=True)
class PaintedObject:
    """An object as it was painted, before later ones covered it.

    Attributes:
        label: Class name.
        polygon: Outline in whole pixels within the picture, shape (N, 2).
        area: Number of pixels it was painted on.
        cut: Whether it reached beyond the picture's edge.
    """

    label: str
    polygon: np.ndarray
    area: int
    cut: bool


class Canvas:
    """Paints objects from far to near.

    Args:
        rng: Source of the texture noise.
        width: Width in pixels.
        height: Height in pixels.
    """

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.image = np.zeros((height, width, 3), np.uint8)
        self.owner = np.full((height, width), NOBODY, np.int32)
        self.objects: list[PaintedObject] = []
        self._grain = rng.standard_normal((height, width), np.float32)
        cell = max(2, height // 50)
        coarse = rng.standard_normal((height // cell + 2, width // cell + 2), np.float32)
        self._blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

    def paint(
        self, label: str, parts: Sequence[Part], grain: float = 4, blobs: float = 0
    ) -> PaintedObject | None:
        """Paint an object over everything painted so far.

        Args:
            label: Class name.
            parts: The drawing in pixels.
            grain: Strength of the noise that changes from pixel to pixel.
            blobs: Strength of the noise that changes over some pixels.

        Returns:
            The object, or None where nothing of it lies in the picture.
        """
        frame = self._frame(parts)
        if frame is None:
            return None
        left, top, right, bottom = frame
        polygon, mask = _silhouette(parts, frame)
        if polygon is None:
            return None
        area = (slice(top, bottom), slice(left, right))
        self._blend(area, mask, self._colours(parts, frame), grain, blobs)
        self.owner[area][mask] = len(self.objects)
        x0, y0, x1, y1 = bounds(parts)
        cut = x0 < -0.5 or y0 < -0.5 or x1 > self.width - 0.5 or y1 > self.height - 0.5
        outline = polygon + np.array([left, top], np.int32)
        painted = PaintedObject(label, outline, int(mask.sum()), cut)
        self.objects.append(painted)
        return painted

    def shade(self, points: Sequence, factor: float) -> None:
        """Darken an area (a shadow): changes the light, never the owner of a pixel."""
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillPoly(mask, [_whole(np.asarray(points, float))], 1)
        chosen = mask.astype(bool)
        self.image[chosen] = (self.image[chosen] * factor).astype(np.uint8)

    def expose(self, rng: np.random.Generator, noise: float = 3.0) -> None:
        """Finish the picture as a camera would: light, colour cast, soft edges, sensor noise."""
        gain = rng.uniform(0.85, 1.2) * rng.uniform(0.95, 1.05, 3)
        picture = cv2.GaussianBlur(self.image, (3, 3), 0.6).astype(np.float32) * gain
        picture = (picture - 128) * rng.uniform(0.9, 1.2) + 132
        picture += rng.standard_normal(self.owner.shape, np.float32)[..., None] * noise
        self.image = np.clip(picture, 0, 255).astype(np.uint8)

    def visible(self, number: int) -> np.ndarray:
        """Mask of what can be seen of the object with this number in the end."""
        return self.owner == number

    def lookup(self, values: Sequence[int], nobody: int, dtype: type) -> np.ndarray:
        """A map with one value per object at the pixels that the object owns."""
        table = np.array([*values, nobody], dtype)  # index -1 (NOBODY) reads the last entry
        return table[self.owner]

    def _frame(self, parts: Sequence[Part]) -> tuple[int, int, int, int] | None:
        x0, y0, x1, y1 = bounds(parts)
        left, top = max(0, int(x0) - 1), max(0, int(y0) - 1)
        right, bottom = min(self.width, int(x1) + 2), min(self.height, int(y1) + 2)
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _colours(self, parts: Sequence[Part], frame: tuple) -> np.ndarray:
        left, top, right, bottom = frame
        # What is behind shows through the gaps inside the outline, as between the spokes of a
        # wheel; like in the real data sets these pixels count as the object.
        colours = self.image[top:bottom, left:right].astype(np.float32)
        for part in parts:
            cv2.fillPoly(colours, [_whole(part.points) - (left, top)], part.colour)
        return colours

    def _blend(
        self, area: tuple, mask: np.ndarray, colours: np.ndarray, grain: float, blobs: float
    ) -> None:
        noise = self._grain[area] * grain + self._blobs[area] * blobs
        cv2.add(colours, cv2.merge([noise] * 3), dst=colours)
        np.copyto(
            self.image[area], np.clip(colours, 0, 255).astype(np.uint8), where=mask[..., None]
        )


def _whole(points: np.ndarray) -> np.ndarray:
    # OpenCV's fill goes wrong with coordinates far outside, which near objects do have.
    return np.clip(np.round(points), -20000, 20000).astype(np.int32)


def _silhouette(parts: Sequence[Part], frame: tuple) -> tuple[np.ndarray | None, np.ndarray]:
    """Outline and mask of the largest connected piece, without holes, within the frame."""
    left, top, right, bottom = frame
    rough = np.zeros((bottom - top, right - left), np.uint8)
    for part in parts:
        if part.solid:
            cv2.fillPoly(rough, [_whole(part.points) - (left, top)], 1)
    contours, _ = cv2.findContours(rough, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    contour = max(contours, key=cv2.contourArea, default=None)
    mask = np.zeros_like(rough)
    if contour is None or len(contour) < 3:
        return None, mask.astype(bool)
    # The mask is the outline filled in again: the outline is what gets written as truth.
    cv2.fillPoly(mask, [contour], 1)
    return contour[:, 0], mask.astype(bool)
