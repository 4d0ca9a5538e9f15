"""Poles and what hangs on them."""

from __future__ import annotations

import numpy as np

from .camera import Camera
from .shapes import BLACK, WHITE, Colour, Part, bar, box, darker, disc, lighter, pick, poly, vary

THICK = 0.4
"""Metres; real poles are thinner, but a picture of 256 x 128 must still show them."""


def pole(
    rng: np.random.Generator, camera: Camera, x: float, z: float, height: float, arm: float = 0
) -> list[Part]:
    """A round post with a foot, and an arm of some metres over the road for lights."""
    steel = vary(rng, (92, 98, 92), 8)
    scale = camera.scale(z)
    foot_x, foot_y = camera(x, 0, z)
    top = foot_y - height * scale
    half = THICK / 2 * scale
    parts = [
        box(foot_x - half, top, foot_x + half, foot_y, steel),
        box(
            foot_x - half * 1.5,
            foot_y - 0.5 * scale,
            foot_x + half * 1.5,
            foot_y,
            darker(steel, 0.2),
        ),
        box(foot_x - half * 0.6, top, foot_x - half * 0.1, foot_y, lighter(steel, 0.35), False),
    ]
    if arm:
        end = foot_x + arm * scale
        parts.append(bar(foot_x, top + half, end, top + half, half * 1.7, steel))
    return parts


def traffic_light(
    rng: np.random.Generator, camera: Camera, x: float, y: float, z: float
) -> list[Part]:
    """A signal head centred at (x, y) with one of its three lamps on."""
    scale = camera.scale(z)
    cx, cy = camera(x, y, z)
    half_width, half_height = 0.48 * scale, 1.15 * scale
    parts = [
        box(cx - half_width, cy - half_height, cx + half_width, cy + half_height, (38, 36, 20)),
    ]
    rim = half_width * 0.16
    parts.append(
        box(
            cx - half_width,
            cy - half_height,
            cx - half_width + rim,
            cy + half_height,
            (206, 170, 40),
            False,
        )
    )
    parts.append(
        box(
            cx + half_width - rim,
            cy - half_height,
            cx + half_width,
            cy + half_height,
            (206, 170, 40),
            False,
        )
    )
    lit = int(rng.integers(3))
    lamps = ((240, 30, 30), (255, 190, 30), (40, 230, 110))
    for n, lamp in enumerate(lamps):
        colour = lamp if n == lit else darker(lamp, 0.6)
        radius = half_width * 0.64
        parts.append(disc(cx, cy + (n - 1) * half_height * 0.64, radius, radius, colour, False))
    return parts


def traffic_sign(
    rng: np.random.Generator, camera: Camera, x: float, y: float, z: float
) -> list[Part]:
    """One of five signs centred at (x, y)."""
    scale = camera.scale(z)
    cx, cy = camera(x, y, z)
    sign = pick(rng, (_warning, _limit, _direction, _priority, _stop))
    unit = 0.85 * scale
    return [part._replace(points=part.points * unit + (cx, cy)) for part in sign(rng)]


RED: Colour = (206, 24, 30)
BLUE: Colour = (24, 84, 190)


def _warning(rng: np.random.Generator) -> list[Part]:
    return [
        poly([(0, -1), (1.05, 0.85), (-1.05, 0.85)], RED),
        poly([(0, -0.5), (0.6, 0.6), (-0.6, 0.6)], WHITE, False),
        bar(0, -0.15, 0, 0.35, 0.2, BLACK, False),
    ]


def _limit(rng: np.random.Generator) -> list[Part]:
    return [
        disc(0, 0, 1, 1, RED),
        disc(0, 0, 0.7, 0.7, WHITE, False),
        box(-0.4, -0.35, -0.08, 0.35, BLACK, False),
        box(0.08, -0.35, 0.4, 0.35, BLACK, False),
    ]


def _direction(rng: np.random.Generator) -> list[Part]:
    return [
        disc(0, 0, 1, 1, BLUE),
        bar(0, 0.65, 0, -0.1, 0.3, WHITE, False),
        poly([(0, -0.75), (0.5, -0.05), (-0.5, -0.05)], WHITE, False),
    ]


def _priority(rng: np.random.Generator) -> list[Part]:
    return [
        poly([(0, -1.1), (1.1, 0), (0, 1.1), (-1.1, 0)], WHITE),
        poly([(0, -0.7), (0.7, 0), (0, 0.7), (-0.7, 0)], (250, 200, 20), False),
    ]


def _stop(rng: np.random.Generator) -> list[Part]:
    angle = (np.arange(8) + 0.5) * np.pi / 4
    corners = np.stack([np.cos(angle), np.sin(angle)], 1) * 1.05
    return [poly(corners, RED), box(-0.7, -0.2, 0.7, 0.2, WHITE, False)]
