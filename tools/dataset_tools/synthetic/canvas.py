"""Images painted from coloured polygons, with a record of which object each pixel shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

Rng = np.random.Generator
Colour = tuple[int, int, int]  # red, green and blue, each 0-255
Frame = tuple[float, float, float, float]  # left, top, right and bottom

UNPAINTED = -1  # owner of pixels without an object


class Part(NamedTuple):
    """One coloured polygon of a drawing, in any unit; y points down."""

    points: np.ndarray  # shape (N, 2)
    colour: Colour
    solid: bool = True  # part of the silhouette; parts that are not solid are clipped to it


def poly(points: Sequence, colour: Colour, solid: bool = True) -> Part:
    """A polygon from a sequence of corners."""
    return Part(np.asarray(points, float), colour, solid)


def box(x0: float, y0: float, x1: float, y1: float, colour: Colour, solid: bool = True) -> Part:
    """A rectangle from two opposite corners."""
    return poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, solid)


def disc(x: float, y: float, rx: float, ry: float, colour: Colour, solid: bool = True) -> Part:
    """An ellipse, as a polygon with 24 corners."""
    angle = np.arange(24) * (np.pi / 12)
    return poly(np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1), colour, solid)


def bar(start: Sequence, end: Sequence, width: float, colour: Colour, solid: bool = True) -> Part:
    """A straight line with a width."""
    start, end = np.array(start, float), np.array(end, float)
    along = (end - start) * (width / 2 / np.hypot(*(end - start)))
    across = np.array([-along[1], along[0]])
    return poly([start + across, end + across, end - across, start - across], colour, solid)


def bounds(parts: Iterable[Part]) -> Frame:
    """The bounding box of the solid parts."""
    points = np.concatenate([part.points for part in parts if part.solid])
    return (*points.min(0).tolist(), *points.max(0).tolist())


def fit(
    parts: Sequence[Part], left: float, bottom: float, height: float, stretch: float = 1.0,
    frame: Frame | None = None,
) -> list[Part]:  # fmt: skip
    """Scale a drawing to a height and move its lower left corner.

    ``stretch`` is a factor on the width, for objects seen at an angle; if it is negative, it also
    mirrors. ``frame`` is the bounding box to scale and move, by default that of the drawing.
    """
    x0, y0, x1, y1 = frame or bounds(parts)
    origin = np.array([x0 if stretch > 0 else x1, y1])
    factor = np.array([stretch, 1]) * height / (y1 - y0)
    return [p._replace(points=(p.points - origin) * factor + (left, bottom)) for p in parts]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Interpolate between two colours; 0 gives the first, 1 the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def shade(colour: Colour, share: float) -> Colour:
    """Lighten a colour by a share from 0 to 1, or darken it by a share from 0 to -1."""
    return mix(colour, (255, 255, 255) if share > 0 else (0, 0, 0), abs(share))


def vary(rng: Rng, colour: Colour, amount: int = 12) -> Colour:
    """A random colour near the given one."""
    offset = rng.integers(-amount, amount + 1) + rng.integers(-amount // 2, amount // 2 + 1, 3)
    return tuple(int(value) for value in np.clip(np.add(colour, offset), 0, 255))


def pick(rng: Rng, choices: Sequence):
    """A random element. Unlike rng.choice, this does not convert it to a NumPy type."""
    return choices[int(rng.integers(len(choices)))]


class PaintedObject(NamedTuple):
    """An object as painted, before later objects covered parts of it."""

    label: str
    polygon: np.ndarray  # outline in integer pixels inside the image, shape (N, 2)
    area: int  # number of painted pixels
    crosses_edge: bool  # whether part of it lies outside the image


class Canvas:
    """An image to paint on; ``owner`` has each pixel's index in ``objects``, or UNPAINTED."""

    def __init__(self, rng: Rng, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.image = np.zeros((height, width, 3), np.uint8)
        self.owner = np.full((height, width), UNPAINTED, np.int32)
        self.objects: list[PaintedObject] = []
        self._grain = rng.standard_normal((height, width), np.float32)
        cell = max(2, height // 50)
        coarse = rng.standard_normal((height // cell + 2, width // cell + 2), np.float32)
        self._blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

    def paint(self, label: str, parts: Sequence[Part], grain: float = 4, blobs: float = 2) -> None:
        """Paint an object over everything painted so far, if it is inside the image.

        ``grain`` is the strength of the noise per pixel, ``blobs`` of noise over several pixels.
        """
        x0, y0, x1, y1 = bounds(parts)
        left, top = max(0, int(x0) - 1), max(0, int(y0) - 1)
        right, bottom = min(self.width, int(x1) + 2), min(self.height, int(y1) + 2)
        if left >= right or top >= bottom:
            return
        area = slice(top, bottom), slice(left, right)
        # The background remains visible through gaps inside the outline, for example between the
        # spokes of a wheel. As in the real data sets, these pixels belong to the object.
        colours = self.image[area].astype(np.float32)
        mask = np.zeros(colours.shape[:2], np.uint8)
        for part in parts:
            points = _to_pixels(part.points) - (left, top)
            cv2.fillPoly(colours, [points], part.colour)
            if part.solid:
                cv2.fillPoly(mask, [points], 1)
        # The annotation is one outline: that of the largest connected piece, without holes.
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        outline = max(contours, key=cv2.contourArea, default=())
        if len(outline) < 3:
            return
        mask = cv2.fillPoly(np.zeros_like(mask), [outline], 1).astype(bool)
        noise = self._grain[area] * grain + self._blobs[area] * blobs
        colours = np.clip(colours + noise[..., None], 0, 255).astype(np.uint8)
        self.image[area][mask] = colours[mask]
        self.owner[area][mask] = len(self.objects)
        crosses = x0 < -0.5 or y0 < -0.5 or x1 > self.width - 0.5 or y1 > self.height - 0.5
        polygon = outline[:, 0] + np.array([left, top], np.int32)
        self.objects.append(PaintedObject(label, polygon, int(mask.sum()), crosses))

    def darken(self, part: Part, factor: float) -> None:
        """Multiply the colours inside a polygon, as a shadow does; owners do not change."""
        mask = np.zeros((self.height, self.width), np.uint8)
        chosen = cv2.fillPoly(mask, [_to_pixels(part.points)], 1).astype(bool)
        self.image[chosen] = (self.image[chosen] * factor).astype(np.uint8)

    def expose(self, rng: Rng) -> None:
        """Imitate a camera: brightness, colour cast, contrast, blur and sensor noise."""
        gain = rng.uniform(0.85, 1.2) * rng.uniform(0.95, 1.05, 3)
        image = cv2.GaussianBlur(self.image, (3, 3), 0.6).astype(np.float32) * gain
        image = (image - 128) * rng.uniform(0.9, 1.2) + 132
        image += rng.standard_normal(self.owner.shape, np.float32)[..., None] * 3
        self.image = np.clip(image, 0, 255).astype(np.uint8)

    def lookup(self, values: Sequence, unpainted: object, dtype: type) -> np.ndarray:
        """Give each pixel the value of its object, or ``unpainted``."""
        return np.array([*values, unpainted], dtype)[self.owner]  # index UNPAINTED is the last


def _to_pixels(points: np.ndarray) -> np.ndarray:
    # cv2.fillPoly overflows with very large coordinates, which objects near the camera have.
    return np.clip(np.round(points), -20000, 20000).astype(np.int32)
