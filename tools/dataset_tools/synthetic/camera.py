"""Perspective: from metres on the street to pixels.

The camera looks along the street: x points right, y up from the ground, z away from the camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .shapes import Colour, Part, darker, lighter, poly


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        centre: Column of the vanishing point.
        horizon: Row of the horizon.
        focal: Focal length in pixels.
        eye: Height above the ground in metres.
    """

    centre: float
    horizon: float
    focal: float
    eye: float

    @classmethod
    def random(cls, rng: np.random.Generator, width: int, height: int) -> Camera:
        """A camera as in a car, with some play."""
        span = min(height, width / 2)  # a narrow picture still shows both sides of the street
        return cls(
            centre=width * rng.uniform(0.44, 0.56),
            horizon=height * rng.uniform(0.38, 0.47),
            focal=span * rng.uniform(1.45, 1.75),
            eye=rng.uniform(1.7, 2.3),
        )

    def __call__(self, x: float, y: float, z: float) -> tuple[float, float]:
        """The pixel (column, row) of a point."""
        scale = self.focal / z
        return self.centre + x * scale, self.horizon + (self.eye - y) * scale

    def scale(self, z: float) -> float:
        """Pixels per metre at a distance."""
        return self.focal / z

    def flat(self, points: Sequence[tuple[float, float]], colour: Colour, solid=True) -> Part:
        """A polygon on the ground from (x, z) corners."""
        return poly([self(x, 0, z) for x, z in points], colour, solid)

    def strip(self, x0: float, x1: float, z0: float, z1: float, colour: Colour, solid=True) -> Part:
        """A rectangle on the ground."""
        return self.flat([(x0, z0), (x0, z1), (x1, z1), (x1, z0)], colour, solid)


@dataclass(frozen=True)
class Block:
    """An upright box on the street, from (x0, y0, z0) to (x1, y1, z1)."""

    camera: Camera
    x0: float
    x1: float
    y0: float
    y1: float
    z0: float
    z1: float

    @property
    def flank(self) -> float | None:
        """The x of the long side that the camera sees, if it sees one."""
        if self.x1 < 0:
            return self.x1
        return self.x0 if self.x0 > 0 else None

    def shell(self, colour: Colour) -> list[Part]:
        """The visible faces, each in its own shade."""
        faces = []
        if self.flank is not None:
            faces.append(self.side(0, 0, 1, 1, darker(colour, 0.18), True))
        if self.y1 < self.camera.eye:
            faces.append(self._top(lighter(colour, 0.18)))
        return [*faces, self.front(0, 0, 1, 1, colour, True)]

    def front(
        self, u0: float, v0: float, u1: float, v1: float, colour: Colour, solid: bool = False
    ) -> Part:
        """A rectangle on the near face; u runs right and v up, both from 0 to 1."""
        corners = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
        return poly([self.on_front(u, v) for u, v in corners], colour, solid)

    def side(
        self, u0: float, v0: float, u1: float, v1: float, colour: Colour, solid: bool = False
    ) -> Part:
        """A rectangle on the visible flank; u runs away from the camera and v up."""
        corners = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
        return poly([self.on_side(u, v) for u, v in corners], colour, solid)

    def on_front(self, u: float, v: float) -> tuple[float, float]:
        """The pixel of a point on the near face."""
        x = self.x0 + (self.x1 - self.x0) * u
        return self.camera(x, self.y0 + (self.y1 - self.y0) * v, self.z0)

    def on_side(self, u: float, v: float) -> tuple[float, float]:
        """The pixel of a point on the visible flank."""
        y = self.y0 + (self.y1 - self.y0) * v
        return self.camera(self.flank, y, self.z0 + (self.z1 - self.z0) * u)

    def _top(self, colour: Colour) -> Part:
        corners = [(self.x0, self.z0), (self.x1, self.z0), (self.x1, self.z1), (self.x0, self.z1)]
        return poly([self.camera(x, self.y1, z) for x, z in corners], colour)
