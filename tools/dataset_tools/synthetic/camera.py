"""Perspective, from metres on the street to pixels.

The camera looks along the street: x points right, y up from the ground, z away from the camera.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from .canvas import Colour, Part, poly, shade


class Camera(NamedTuple):
    """A pinhole camera, ``eye`` metres above the ground; the rest is in pixels."""

    centre: float
    horizon: float
    focal: float
    eye: float

    def __call__(self, x: float, y: float, z: float) -> tuple[float, float]:
        """The pixel (column, row) of a point."""
        return self.centre + x * self.focal / z, self.horizon + (self.eye - y) * self.focal / z

    def strip(self, x0: float, x1: float, z0: float, z1: float, colour: Colour, y: float = 0):
        """A level rectangle."""
        corners = ((x0, z0), (x0, z1), (x1, z1), (x1, z0))
        return poly([self(x, y, z) for x, z in corners], colour)


class Face(NamedTuple):
    """An upright rectangle on the street between two corners (x, y, z)."""

    camera: Camera
    start: np.ndarray
    end: np.ndarray

    def rect(self, u0: float, v0: float, u1: float, v1: float, colour: Colour, solid=False) -> Part:
        """A rectangle on the face; u runs from 0 to 1 along it, v upwards."""
        corners = np.array([(u0, v0, u0), (u1, v0, u1), (u1, v1, u1), (u0, v1, u0)])
        points = self.start + (self.end - self.start) * corners
        return poly([self.camera(*point) for point in points], colour, solid)

    def tiles(self, columns: int, rows: int, us: tuple, vs: tuple, colour: Colour) -> list[Part]:
        """A grid of rectangles (windows, bricks), which cover the shares us x vs of their cells."""
        parts = []
        for n, m in itertools.product(range(columns), range(rows)):
            (u0, u1), (v0, v1) = ((n + u) / columns for u in us), ((m + v) / rows for v in vs)
            parts.append(self.rect(u0, v0, u1, v1, colour))
        return parts


class Block:
    """An upright box on the street, of which the near face and the inner one are seen."""

    def __init__(
        self, camera: Camera, x0: float, x1: float, y0: float, y1: float, z0: float, z1: float
    ) -> None:
        x0, x1 = sorted((x0, x1))
        inner = x1 if x1 < 0 else x0
        self.camera, self.inner, self.area, self.heights = camera, inner, (x0, x1, z0, z1), (y0, y1)
        self.front = Face(camera, np.array([x0, y0, z0]), np.array([x1, y1, z0]))
        self.side = Face(camera, np.array([inner, y0, z0]), np.array([inner, y1, z1]))

    def shell(self, colour: Colour) -> list[Part]:
        """The visible faces, each in its own shade."""
        parts = [self.side.rect(0, 0, 1, 1, shade(colour, -0.18), True)]
        if self.heights[1] < self.camera.eye:
            parts.append(self.camera.strip(*self.area, shade(colour, 0.18), self.heights[1]))
        return [*parts, self.front.rect(0, 0, 1, 1, colour, True)]
