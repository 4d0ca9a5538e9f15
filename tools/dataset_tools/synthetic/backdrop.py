"""Backgrounds for pictures of single things; nothing on them carries a label."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .shapes import Colour, Part, bar, box, darker, disc, lighter, mix, pick, poly, vary

BACKGROUND = 'background'


def paint_backdrop(canvas: Canvas, rng: np.random.Generator, kind: str | None = None) -> None:
    """Fill the canvas with a random scene of a kind, or of any kind."""
    draw = BACKDROPS[kind or pick(rng, tuple(BACKDROPS))]
    for parts in draw(rng, canvas.width, canvas.height):
        canvas.paint(BACKGROUND, parts, rng.uniform(3, 8), rng.uniform(2, 8))


def _gradient(width: int, top: float, bottom: float, first: Colour, last: Colour) -> list[Part]:
    rows = np.linspace(top, bottom, 21)
    return [
        box(-1, rows[n] - 1, width + 1, rows[n + 1] + 1, mix(first, last, n / 20))
        for n in range(20)
    ]


def _heaven(rng: np.random.Generator, width: int, bottom: float) -> list[Part]:
    zenith = vary(rng, pick(rng, ((96, 150, 212), (150, 176, 206), (120, 130, 160))), 14)
    parts = _gradient(width, 0, bottom, zenith, lighter(zenith, 0.65))
    for _ in range(int(rng.integers(0, 5))):
        x, y, size = rng.uniform(0, width), rng.uniform(0, bottom), bottom * rng.uniform(0.04, 0.1)
        for _ in range(4):
            dx, dy = rng.uniform(-3, 3) * size, rng.uniform(-0.4, 0.4) * size
            parts.append(disc(x + dx, y + dy, size * 2, size, lighter(zenith, 0.8), False))
    return parts


def sky(rng: np.random.Generator, width: int, height: int) -> list[list[Part]]:
    """Nothing but sky, perhaps with hills far below."""
    layers = [_heaven(rng, width, height)]
    if rng.random() < 0.5:
        layers.append(_hills(rng, width, height * 0.85, height + 1))
    return layers


def _hills(rng: np.random.Generator, width: int, top: float, bottom: float) -> list[Part]:
    colour = vary(rng, pick(rng, ((92, 124, 92), (120, 130, 140), (150, 136, 110))), 14)
    xs = np.linspace(-1, width + 1, 9)
    ridge = [(x, top - rng.uniform(0, 0.12) * bottom) for x in xs]
    return [poly([*ridge, (width + 1, bottom), (-1, bottom)], colour)]


def field(rng: np.random.Generator, width: int, height: int) -> list[list[Part]]:
    """A meadow under the sky with trees at its end."""
    edge = height * rng.uniform(0.3, 0.6)
    grass = vary(rng, pick(rng, ((120, 156, 72), (166, 160, 90), (96, 138, 66))), 14)
    ground = [box(-1, edge, width + 1, height + 1, grass)]
    for _ in range(40):
        x, y = rng.uniform(0, width), rng.uniform(edge, height)
        tuft = vary(rng, grass, 30)
        ground.append(bar(x, y, x + rng.uniform(-4, 4), y - height * 0.03, 2, tuft, False))
    layers = [_heaven(rng, width, edge + 2), _hills(rng, width, edge, edge + 3), ground]
    for _ in range(int(rng.integers(0, 4))):
        x, size = rng.uniform(0, width), height * rng.uniform(0.05, 0.12)
        leaf = vary(rng, (58, 98, 50), 16)
        crown = [
            disc(x + d * size, edge - size * 1.6, size, size, vary(rng, leaf, 8))
            for d in (-0.5, 0, 0.5)
        ]
        layers.append([bar(x, edge + 2, x, edge - size, size * 0.3, (90, 68, 50)), *crown])
    return layers


def street(rng: np.random.Generator, width: int, height: int) -> list[list[Part]]:
    """A street in front of houses."""
    edge = height * rng.uniform(0.45, 0.65)
    asphalt = vary(rng, (112, 112, 116), 16)
    ground = [box(-1, edge, width + 1, height + 1, asphalt)]
    ground.append(box(-1, edge, width + 1, edge + height * 0.05, lighter(asphalt, 0.4), False))
    for x in np.arange(-0.1, 1.1, 0.25) * width:
        ground.append(
            box(x, height * 0.86, x + width * 0.12, height * 0.89, (226, 226, 220), False)
        )
    layers = [_heaven(rng, width, edge)]
    left = -rng.uniform(0, 0.2) * width
    while left < width:
        right = left + rng.uniform(0.25, 0.5) * width
        layers.append(_house(rng, left, right, edge * rng.uniform(-0.1, 0.5), edge + 1))
        left = right
    return [*layers, ground]


def _house(rng: np.random.Generator, x0: float, x1: float, y0: float, y1: float) -> list[Part]:
    plaster = vary(rng, pick(rng, ((206, 186, 150), (180, 120, 96), (170, 174, 180))), 16)
    parts = [box(x0, y0, x1, y1, plaster)]
    step = (x1 - x0) / 4
    for x in x0 + step * (np.arange(4) + 0.25):
        for y in np.arange(y0 + step * 0.3, y1 - step * 0.8, step * 1.1):
            parts.append(box(x, y, x + step * 0.5, y + step * 0.7, (80, 94, 108), False))
    return parts


def room(rng: np.random.Generator, width: int, height: int) -> list[list[Part]]:
    """A wall and a floor, perhaps with a picture frame and a window."""
    edge = height * rng.uniform(0.6, 0.8)
    paint = vary(rng, pick(rng, ((222, 210, 186), (186, 200, 210), (206, 186, 186))), 14)
    floor = vary(rng, pick(rng, ((150, 110, 76), (120, 120, 124), (176, 150, 120))), 14)
    wall = [box(-1, -1, width + 1, edge + 1, paint)]
    wall.append(box(-1, edge - height * 0.03, width + 1, edge + 1, lighter(paint, 0.5), False))
    if rng.random() < 0.6:
        x, y = rng.uniform(0, 0.7) * width, rng.uniform(0.05, 0.2) * height
        w, h = rng.uniform(0.15, 0.3) * width, rng.uniform(0.15, 0.3) * height
        wall.append(box(x, y, x + w, y + h, vary(rng, (110, 80, 54)), False))
        inner = vary(rng, (140, 170, 190), 40)
        wall.append(box(x + w * 0.1, y + h * 0.1, x + w * 0.9, y + h * 0.9, inner, False))
    planks = [box(-1, edge, width + 1, height + 1, floor)]
    for x in np.linspace(-0.5, 1.5, 14) * width:
        end = (x - width / 2) * 1.6 + width / 2
        planks.append(bar(x, edge, end, height, 2, darker(floor, 0.2), False))
    return [wall, planks]


def water(rng: np.random.Generator, width: int, height: int) -> list[list[Part]]:
    """The sea with waves, and perhaps a coast."""
    edge = height * rng.uniform(0.35, 0.6)
    sea = vary(rng, pick(rng, ((60, 110, 150), (70, 130, 130), (90, 110, 140))), 14)
    surface = _gradient(width, edge, height, lighter(sea, 0.3), sea)
    for _ in range(40):
        x, y = rng.uniform(0, width), edge + (height - edge) * rng.random()
        length = (y - edge) * 0.3 + 4
        surface.append(bar(x, y, x + length, y, 2, lighter(sea, 0.45), False))
    return [_heaven(rng, width, edge + 2), _hills(rng, width, edge, edge + 3), surface]


BACKDROPS = {'sky': sky, 'field': field, 'street': street, 'room': room, 'water': water}
