"""Perspective projection from metres on the street to pixels.

The camera looks along the street: x points right, y up, z away from the camera; y is 0 on the
ground.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from .canvas import Colour, Part, poly, shade


class Camera(NamedTuple):
    """A pinhole camera; ``eye`` is its height in metres, the other fields are in pixels."""

    centre: float
    horizon: float
    focal: float
    eye: float

    def __call__(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Project a point; returns column and row."""
        return self.centre + x * self.focal / z, self.horizon + (self.eye - y) * self.focal / z

    def strip(self, x0: float, x1: float, z0: float, z1: float, colour: Colour, y: float = 0):
        """A horizontal rectangle at the height y."""
        corners = ((x0, z0), (x0, z1), (x1, z1), (x1, z0))
        return poly([self(x, y, z) for x, z in corners], colour)


class Face(NamedTuple):
    """A vertical rectangle between two opposite corners (x, y, z)."""

    camera: Camera
    start: np.ndarray
    end: np.ndarray

    def rect(self, u0: float, v0: float, u1: float, v1: float, colour: Colour, solid=False) -> Part:
        """A rectangle on the face; u runs along it and v upwards, both from 0 to 1."""
        corners = np.array([(u0, v0, u0), (u1, v0, u1), (u1, v1, u1), (u0, v1, u0)])
        points = self.start + (self.end - self.start) * corners
        return poly([self.camera(*point) for point in points], colour, solid)

    def tiles(self, columns: int, rows: int, us: tuple, vs: tuple, colour: Colour) -> list[Part]:
        """A grid of rectangles, each in the ranges us and vs (from 0 to 1) of its cell."""
        parts = []
        for n, m in itertools.product(range(columns), range(rows)):
            (u0, u1), (v0, v1) = ((n + u) / columns for u in us), ((m + v) / rows for v in vs)
            parts.append(self.rect(u0, v0, u1, v1, colour))
        return parts


class Block:
    """A box on the street; the camera sees its near face and the face towards the street."""

    def __init__(
        self, camera: Camera, x0: float, x1: float, y0: float, y1: float, z0: float, z1: float
    ) -> None:
        x0, x1 = sorted((x0, x1))
        inner = x1 if x1 < 0 else x0
        self.camera, self.inner, self.area, self.heights = camera, inner, (x0, x1, z0, z1), (y0, y1)
        self.front = Face(camera, np.array([x0, y0, z0]), np.array([x1, y1, z0]))
        self.side = Face(camera, np.array([inner, y0, z0]), np.array([inner, y1, z1]))

    def shell(self, colour: Colour) -> list[Part]:
        """The visible faces, each in a shade of the colour."""
        parts = [self.side.rect(0, 0, 1, 1, shade(colour, -0.18), True)]
        if self.heights[1] < self.camera.eye:
            parts.append(self.camera.strip(*self.area, shade(colour, 0.18), self.heights[1]))
        return [*parts, self.front.rect(0, 0, 1, 1, colour, True)]
