"""Coloured polygons: the only thing that every drawing of this package is made of.

Drawings use any unit they like with y pointing down; :func:`fit` brings them to pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

Colour = tuple[int, int, int]
"""Red, green, blue, each 0-255."""

BLACK: Colour = (22, 22, 26)
GLASS: Colour = (58, 78, 96)
TYRE: Colour = (28, 28, 30)
WHITE: Colour = (240, 240, 236)


class Part(NamedTuple):
    """One coloured polygon of a drawing.

    Attributes:
        points: Corners, shape (N, 2).
        colour: Fill colour.
        solid: Whether the polygon belongs to the silhouette. Other parts are surface detail
            and are cut off where they leave the silhouette.
    """

    points: np.ndarray
    colour: Colour
    solid: bool = True


def poly(points: Sequence, colour: Colour, solid: bool = True) -> Part:
    """A polygon from a sequence of corners."""
    return Part(np.asarray(points, float), colour, solid)


def box(x0: float, y0: float, x1: float, y1: float, colour: Colour, solid: bool = True) -> Part:
    """An upright rectangle."""
    return poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, solid)


def disc(
    cx: float,
    cy: float,
    rx: float,
    ry: float,
    colour: Colour,
    solid: bool = True,
    corners: int = 20,
) -> Part:
    """An ellipse as a polygon with ``corners`` corners."""
    angle = np.arange(corners) * (2 * np.pi / corners)
    return Part(np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1), colour, solid)


def bar(
    x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour, solid: bool = True
) -> Part:
    """A straight line of a certain width."""
    along = np.array([x1 - x0, y1 - y0], float)
    across = np.array([-along[1], along[0]]) * (width / 2 / max(np.hypot(*along), 1e-6))
    start, end = np.array([x0, y0]), np.array([x1, y1])
    return Part(
        np.stack([start + across, end + across, end - across, start - across]), colour, solid
    )


def wheel(cx: float, cy: float, radius: float, hub: Colour = (170, 172, 176)) -> list[Part]:
    """A tyre with a hub."""
    inner = radius * 0.55
    return [disc(cx, cy, radius, radius, TYRE), disc(cx, cy, inner, inner, hub, False)]


def bounds(parts: Iterable[Part]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the solid parts."""
    points = np.concatenate([part.points for part in parts if part.solid])
    return (*points.min(0).tolist(), *points.max(0).tolist())


def fit(
    parts: Sequence[Part],
    left: float,
    bottom: float,
    height: float,
    stretch: float = 1.0,
    flip: bool = False,
) -> list[Part]:
    """Scale a drawing to a height and stand it on a ground line.

    Args:
        parts: The drawing.
        left: Left end of the result.
        bottom: Ground line of the result (y points down).
        height: Height of the result; the width follows.
        stretch: Factor on the width, for things seen at an angle.
        flip: Whether to mirror it.
    """
    x0, y0, x1, y1 = bounds(parts)
    scale = height / (y1 - y0)
    x_scale = scale * stretch
    origin = np.array([x1 if flip else x0, y1])
    factor = np.array([-x_scale if flip else x_scale, scale])
    corner = np.array([left, bottom])
    return [part._replace(points=(part.points - origin) * factor + corner) for part in parts]


def turn(parts: Sequence[Part], degrees: float) -> list[Part]:
    """Rotate a drawing around the middle of its bounds."""
    x0, y0, x1, y1 = bounds(parts)
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    sin, cos = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    matrix = np.array([[cos, sin], [-sin, cos]])
    return [part._replace(points=(part.points - middle) @ matrix + middle) for part in parts]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour between two others, ``share`` of the way to the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def darker(colour: Colour, share: float = 0.3) -> Colour:
    """A colour moved towards black."""
    return mix(colour, (0, 0, 0), share)


def lighter(colour: Colour, share: float = 0.3) -> Colour:
    """A colour moved towards white."""
    return mix(colour, (255, 255, 255), share)


def vary(rng: np.random.Generator, colour: Colour, amount: int = 14) -> Colour:
    """A colour close to the given one."""
    offset = rng.integers(-amount, amount + 1) + rng.integers(-amount // 2, amount // 2 + 1, 3)
    return tuple(int(value) for value in np.clip(np.add(colour, offset), 0, 255))


def pick(rng: np.random.Generator, choices: Sequence):
    """One of the choices, as it stands (NumPy's own choice would convert it)."""
    return choices[int(rng.integers(len(choices)))]
