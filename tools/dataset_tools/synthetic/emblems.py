"""Plain figures and surface patterns: what makes up to a thousand classes distinct."""

from __future__ import annotations

import numpy as np

from .shapes import Colour, Part, bar, bounds, box, darker, disc, lighter, poly


def _star(points: int, inner: float) -> np.ndarray:
    angle = np.arange(points * 2) * np.pi / points - np.pi / 2
    radius = np.where(np.arange(points * 2) % 2, inner, 50.0)
    return np.stack([50 + radius * np.cos(angle), 50 + radius * np.sin(angle)], 1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([50 + 3 * 16 * np.sin(t) ** 3, 45 - 3 * y], 1)


_PLUS = """
    35 0  65 0  65 35  100 35  100 65  65 65  65 100  35 100  35 65  0 65  0 35  35 35
"""
_MOON = """
    60 0  30 8  8 30  2 55  14 82  40 98  66 96  84 82  60 80  40 64  34 40  42 16
"""


def _corners(text: str) -> np.ndarray:
    return np.array(text.split(), float).reshape(-1, 2)


FIGURES: dict[str, np.ndarray] = {
    'circle': disc(50, 50, 50, 50, (0, 0, 0), corners=40).points,
    'square': _corners('5 5  95 5  95 95  5 95'),
    'triangle': _corners('50 0  100 95  0 95'),
    'diamond': _corners('50 0  85 50  50 100  15 50'),
    'hexagon': _corners('25 5  75 5  100 50  75 95  25 95  0 50'),
    'star': _star(5, 20),
    'sun': _star(12, 34),
    'heart': _heart(),
    'plus': _corners(_PLUS),
    'arrow': _corners('0 50  50 5  50 30  130 30  130 70  50 70  50 95'),
    'moon': _corners(_MOON),
    'bolt': _corners('50 0  10 58  40 58  24 100  78 38  46 38  74 0'),
}


def figure(name: str):
    """The drawing function of a plain figure."""

    def draw(rng: np.random.Generator, colour: Colour) -> list[Part]:
        points = FIGURES[name]
        middle = points.mean(0)
        core = (points - middle) * rng.uniform(0.5, 0.7) + middle
        return [poly(points, colour), poly(core, lighter(colour, 0.3), False)]

    return draw


def _stripes(x0: float, y0: float, x1: float, y1: float, colour: Colour) -> list[Part]:
    step = (x1 - x0) / 5
    lean = (y1 - y0) * 0.3
    lefts = x0 + step * np.arange(-1, 6)
    return [bar(x, y1, x + lean, y0, step * 0.35, colour, False) for x in lefts]


def _dots(x0: float, y0: float, x1: float, y1: float, colour: Colour) -> list[Part]:
    xs, ys = np.linspace(x0, x1, 7)[1:-1], np.linspace(y0, y1, 6)[1:-1]
    radius = min(x1 - x0, y1 - y0) * 0.07
    return [disc(x, y, radius, radius, colour, False, 10) for x in xs for y in ys]


def _checks(x0: float, y0: float, x1: float, y1: float, colour: Colour) -> list[Part]:
    xs, ys = np.linspace(x0, x1, 9), np.linspace(y0, y1, 9)
    cells = [(i, j) for i in range(8) for j in range(8) if (i + j) % 2]
    return [box(xs[i], ys[j], xs[i + 1], ys[j + 1], colour, False) for i, j in cells]


PATTERNS = (None, _stripes, _dots, _checks)


def cover(parts: list[Part], number: int, colour: Colour) -> list[Part]:
    """Lay one of the surface patterns over a drawing; number 0 leaves it plain."""
    pattern = PATTERNS[number]
    if pattern is None:
        return parts
    return parts + pattern(*bounds(parts), darker(colour, 0.55))
