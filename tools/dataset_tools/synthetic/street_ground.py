"""Sky and ground of a street scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .shapes import Colour, Part, box, darker, disc, lighter, mix, pick, vary

NEAR, FAR = 2.0, 140.0
SKIES: tuple[tuple[Colour, Colour], ...] = (  # zenith, horizon
    ((86, 142, 208), (206, 226, 240)),
    ((128, 168, 210), (232, 236, 238)),
    ((176, 186, 198), (226, 228, 230)),
    ((96, 124, 180), (248, 214, 178)),
)


@dataclass(frozen=True)
class Layout:
    """Where things stand across the street, in metres from the camera's line.

    Attributes:
        left: Left edge of the road (negative).
        right: Right edge of the road.
        walk: Width of the sidewalks.
        lawn: Width of the grass between road and sidewalk, left and right; often none.
        verge: Width of the grass between sidewalk and houses, left and right.
    """

    left: float
    right: float
    walk: float
    lawn: tuple[float, float]
    verge: tuple[float, float]

    @classmethod
    def random(cls, rng: np.random.Generator) -> Layout:
        """A street of two to four lanes."""
        verge = [rng.uniform(2.4, 4.6) if rng.random() < 0.8 else 0.4 for _ in range(2)]
        lawn = [rng.uniform(1.3, 2.2) if rng.random() < 0.4 else 0.0 for _ in range(2)]
        left, right, walk = -rng.uniform(4.6, 6.4), rng.uniform(3.0, 4.0), rng.uniform(2.2, 3.2)
        return cls(left, right, walk, (*lawn,), (*verge,))

    def edge(self, side: int) -> float:
        """Edge of the road on a side (-1 left, 1 right)."""
        return self.left if side < 0 else self.right

    def path(self, side: int) -> float:
        """Edge of the sidewalk towards the road on a side."""
        return self.edge(side) + side * self.lawn[0 if side < 0 else 1]

    def front(self, side: int) -> float:
        """Line of the house fronts on a side."""
        return self.path(side) + side * (self.walk + self.verge[0 if side < 0 else 1])


def sky(rng: np.random.Generator, width: int, bottom: float) -> tuple[list[Part], Colour]:
    """The sky down to a row, with clouds; also returns its colour at the horizon."""
    zenith, low = pick(rng, SKIES)
    zenith, low = vary(rng, zenith, 10), vary(rng, low, 8)
    steps = 24
    rows = np.linspace(0, bottom, steps + 1)
    bands = [
        box(-1, rows[n] - 1, width + 1, rows[n + 1] + 1, mix(zenith, low, n / steps))
        for n in range(steps)
    ]
    for _ in range(int(rng.integers(0, 5))):
        x, y = rng.uniform(0, width), rng.uniform(0.05, 0.6) * bottom
        for _ in range(5):
            dx, dy = rng.uniform(-0.2, 0.2) * bottom, rng.uniform(-0.04, 0.04) * bottom
            size = rng.uniform(0.06, 0.14) * bottom
            bands.append(disc(x + dx * 2, y + dy, size * 2.2, size, lighter(low, 0.4), False))
    return bands, low


def terrain(rng: np.random.Generator, camera: Camera, width: int, height: int) -> list[Part]:
    """Grass, everywhere below the horizon; the streets are painted on top."""
    grass = vary(rng, (146, 176, 84), 14)
    parts = [box(-1, camera.horizon, width + 1, height + 1, grass)]
    for _ in range(60):
        y = camera.horizon + (height - camera.horizon) * rng.random() ** 2
        x, size = rng.uniform(0, width), (y - camera.horizon) * 0.05 + 1
        tuft = vary(rng, mix(grass, (206, 196, 110), 0.5), 10)
        parts.append(disc(x, y, size * 3, size * 0.5, tuft, False, 8))
    return parts


def sidewalk(rng: np.random.Generator, camera: Camera, layout: Layout, side: int) -> list[Part]:
    """Paving along the road, with joints and a light kerb."""
    stone = vary(rng, (196, 168, 160), 10)
    joint = darker(stone, 0.2)
    inner = layout.path(side)
    outer = inner + side * layout.walk
    parts = [camera.strip(inner, outer, NEAR, FAR, stone)]
    for z in np.arange(4, 40, 1.4):
        parts.append(camera.strip(inner, outer, z, z + 0.07, joint, False))
    middle = (inner + outer) / 2
    parts.append(camera.strip(middle, middle + 0.06, NEAR, 60, joint, False))
    parts.append(camera.strip(inner, inner + side * 0.28, NEAR, FAR, lighter(stone, 0.45), False))
    return parts


def road(rng: np.random.Generator, camera: Camera, layout: Layout, rails: bool) -> list[Part]:
    """Asphalt with lane marks, sometimes a crossing, and rails where a tram runs."""
    asphalt = vary(rng, (98, 98, 104), 12)
    paint = lighter(asphalt, rng.uniform(0.65, 0.85))
    parts = [camera.strip(layout.left, layout.right, NEAR, FAR, asphalt)]
    middle = (layout.left + layout.right) / 2 - 0.3
    for z in np.arange(rng.uniform(2, 6), 80, 6.0):
        parts.append(camera.strip(middle - 0.09, middle + 0.09, z, z + 3, paint, False))
    for x in (layout.left + 0.4, layout.right - 0.4):
        parts.append(camera.strip(x - 0.07, x + 0.07, NEAR, FAR, paint, False))
    if rails:
        tram = tram_line(layout)
        steel = darker(asphalt, 0.45)
        for x in (tram - 0.75, tram + 0.75):
            parts.append(camera.strip(x - 0.08, x + 0.08, NEAR, FAR, steel, False))
    if rng.random() < 0.3:
        parts += _crossing(rng, camera, layout, paint)
    return parts + _patches(rng, camera, layout, asphalt)


def tram_line(layout: Layout) -> float:
    """Middle of the tram's track."""
    return layout.left + 1.7


def _crossing(
    rng: np.random.Generator, camera: Camera, layout: Layout, paint: Colour
) -> list[Part]:
    near = rng.uniform(7, 13)
    xs = np.arange(layout.left + 0.7, layout.right - 0.8, 1.0)
    return [camera.strip(x, x + 0.5, near, near + 3, paint, False) for x in xs]


def _patches(
    rng: np.random.Generator, camera: Camera, layout: Layout, asphalt: Colour
) -> list[Part]:
    parts = []
    for _ in range(int(rng.integers(1, 5))):
        x, z = rng.uniform(layout.left + 0.6, layout.right - 1.6), rng.uniform(5, 22)
        colour = darker(asphalt, rng.uniform(0.08, 0.16))
        parts.append(
            camera.strip(x, x + rng.uniform(0.5, 1.1), z, z + rng.uniform(1, 4), colour, False)
        )
    return parts
