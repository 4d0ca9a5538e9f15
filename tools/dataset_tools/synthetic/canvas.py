"""Pictures made of coloured polygons, with the object that each pixel belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

Rng = np.random.Generator
Colour = tuple[int, int, int]  # red, green and blue, each 0-255
Frame = tuple[float, float, float, float]  # left, top, right and bottom

NOBODY = -1  # owner of the pixels that no object was painted on


class Part(NamedTuple):
    """One coloured polygon of a drawing, in any unit, with y pointing down."""

    points: np.ndarray  # shape (N, 2)
    colour: Colour
    solid: bool = True  # part of the silhouette; other parts are cut off at it


def poly(points: Sequence, colour: Colour, solid: bool = True) -> Part:
    """A polygon from a sequence of corners."""
    return Part(np.asarray(points, float), colour, solid)


def box(x0: float, y0: float, x1: float, y1: float, colour: Colour, solid: bool = True) -> Part:
    """An upright rectangle."""
    return poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, solid)


def disc(x: float, y: float, rx: float, ry: float, colour: Colour, solid: bool = True) -> Part:
    """An ellipse, as a polygon with 24 corners."""
    angle = np.arange(24) * (np.pi / 12)
    return poly(np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1), colour, solid)


def bar(start: Sequence, end: Sequence, width: float, colour: Colour, solid: bool = True) -> Part:
    """A straight line of a certain width between two points."""
    start, end = np.array(start, float), np.array(end, float)
    along = (end - start) * (width / 2 / np.hypot(*(end - start)))
    across = np.array([-along[1], along[0]])
    return poly([start + across, end + across, end - across, start - across], colour, solid)


def bounds(parts: Iterable[Part]) -> Frame:
    """The frame around the solid parts."""
    points = np.concatenate([part.points for part in parts if part.solid])
    return (*points.min(0).tolist(), *points.max(0).tolist())


def fit(
    parts: Sequence[Part], left: float, bottom: float, height: float, stretch: float = 1.0,
    frame: Frame | None = None,
) -> list[Part]:  # fmt: skip
    """Scale a drawing to a height and stand it on a ground line.

    ``stretch`` is a factor on the width, for things seen at an angle; a negative one mirrors.
    ``frame`` is that of another drawing, to scale this one along with it.
    """
    x0, y0, x1, y1 = frame or bounds(parts)
    origin = np.array([x0 if stretch > 0 else x1, y1])
    factor = np.array([stretch, 1]) * height / (y1 - y0)
    return [p._replace(points=(p.points - origin) * factor + (left, bottom)) for p in parts]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour between two others, ``share`` of the way to the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def shade(colour: Colour, share: float) -> Colour:
    """A colour moved towards white or, with a negative share, towards black."""
    return mix(colour, (255, 255, 255) if share > 0 else (0, 0, 0), abs(share))


def vary(rng: Rng, colour: Colour, amount: int = 12) -> Colour:
    """A colour close to the given one."""
    offset = rng.integers(-amount, amount + 1) + rng.integers(-amount // 2, amount // 2 + 1, 3)
    return tuple(int(value) for value in np.clip(np.add(colour, offset), 0, 255))


def pick(rng: Rng, choices: Sequence):
    """One of the choices, unchanged (NumPy's own choice would convert it)."""
    return choices[int(rng.integers(len(choices)))]


class PaintedObject(NamedTuple):
    """An object as it was painted, before later ones covered it."""

    label: str
    polygon: np.ndarray  # outline in whole pixels within the picture, shape (N, 2)
    area: int  # number of pixels it was painted on
    cut: bool  # whether it reached beyond the picture's edge


class Canvas:
    """Paints objects from far to near, and keeps track of who owns each pixel."""

    def __init__(self, rng: Rng, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.image = np.zeros((height, width, 3), np.uint8)
        self.owner = np.full((height, width), NOBODY, np.int32)
        self.objects: list[PaintedObject] = []
        self._grain = rng.standard_normal((height, width), np.float32)
        cell = max(2, height // 50)
        coarse = rng.standard_normal((height // cell + 2, width // cell + 2), np.float32)
        self._blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

    def paint(
        self, label: str, parts: Sequence[Part], grain: float = 4, blobs: float = 2
    ) -> PaintedObject | None:
        """Paint an object over everything painted so far.

        ``grain`` is the strength of the noise that changes from pixel to pixel, ``blobs`` of that
        which changes over some pixels. Gives None where nothing of it lies in the picture.
        """
        x0, y0, x1, y1 = bounds(parts)
        left, top = max(0, int(x0) - 1), max(0, int(y0) - 1)
        right, bottom = min(self.width, int(x1) + 2), min(self.height, int(y1) + 2)
        if left >= right or top >= bottom:
            return None
        area = slice(top, bottom), slice(left, right)
        # What is behind shows through gaps inside the outline, as between the spokes of a wheel;
        # as in the real data sets, these pixels count as the object.
        colours = self.image[area].astype(np.float32)
        mask = np.zeros(colours.shape[:2], np.uint8)
        for part in parts:
            points = _whole(part.points) - (left, top)
            cv2.fillPoly(colours, [points], part.colour)
            if part.solid:
                cv2.fillPoly(mask, [points], 1)
        # The largest connected piece, without holes: its outline is what gets written as truth.
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        outline = max(contours, key=cv2.contourArea, default=())
        if len(outline) < 3:
            return None
        mask = cv2.fillPoly(np.zeros_like(mask), [outline], 1).astype(bool)
        noise = self._grain[area] * grain + self._blobs[area] * blobs
        colours = np.clip(colours + noise[..., None], 0, 255).astype(np.uint8)
        self.image[area][mask] = colours[mask]
        self.owner[area][mask] = len(self.objects)
        cut = x0 < -0.5 or y0 < -0.5 or x1 > self.width - 0.5 or y1 > self.height - 0.5
        polygon = outline[:, 0] + np.array([left, top], np.int32)
        self.objects.append(PaintedObject(label, polygon, int(mask.sum()), cut))
        return self.objects[-1]

    def darken(self, part: Part, factor: float) -> None:
        """Multiply the colours in an area (a shadow); the owners of its pixels stay."""
        mask = np.zeros((self.height, self.width), np.uint8)
        chosen = cv2.fillPoly(mask, [_whole(part.points)], 1).astype(bool)
        self.image[chosen] = (self.image[chosen] * factor).astype(np.uint8)

    def expose(self, rng: Rng, noise: float = 3.0) -> None:
        """Finish the picture as a camera would: light, colour cast, soft edges, sensor noise."""
        gain = rng.uniform(0.85, 1.2) * rng.uniform(0.95, 1.05, 3)
        picture = cv2.GaussianBlur(self.image, (3, 3), 0.6).astype(np.float32) * gain
        picture = (picture - 128) * rng.uniform(0.9, 1.2) + 132
        picture += rng.standard_normal(self.owner.shape, np.float32)[..., None] * noise
        self.image = np.clip(picture, 0, 255).astype(np.uint8)

    def lookup(self, values: Sequence, nobody: object, dtype: type) -> np.ndarray:
        """A map that holds, at each pixel, the value of the object that owns it."""
        return np.array([*values, nobody], dtype)[self.owner]  # NOBODY reads the last entry


def _whole(points: np.ndarray) -> np.ndarray:
    # OpenCV's fill goes wrong with coordinates far outside, which near objects do have.
    return np.clip(np.round(points), -20000, 20000).astype(np.int32)
