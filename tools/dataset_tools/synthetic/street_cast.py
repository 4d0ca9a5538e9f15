"""Proposals for what stands or drives on the street; the scene decides which to take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import street_ground, street_sides, street_signs, street_traffic
from .camera import Camera
from .creatures import person, rider
from .drawings import PAINTS
from .shapes import Colour, Part, bounds, fit, pick, vary
from .vehicles import bicycle, motorbike
from .vehicles import bus as bus_side
from .vehicles import car as car_side
from .vehicles import truck as truck_side

COLOURS: dict[str, tuple[Colour, ...]] = {
    'car': PAINTS,
    'truck': ((40, 84, 170), (226, 120, 30), (46, 110, 74)),
    'bus': ((240, 184, 30), (232, 150, 24)),
    'train': ((20, 130, 120), (150, 24, 70)),
    'bicycle': ((206, 40, 40), (30, 110, 190), (40, 140, 80)),
    'motorcycle': ((206, 30, 36), (230, 90, 20)),
    'person': ((176, 60, 66), (60, 84, 140), (120, 90, 60), (70, 70, 76), (190, 170, 120)),
    'rider': ((230, 240, 60), (250, 140, 30), (80, 200, 220)),
}


class Item(NamedTuple):
    """A thing to be painted: its distance, class and drawing in pixels."""

    z: float
    label: str
    parts: list[Part]
    shadow: bool = False


class Cast:
    """Makes things at random places; each method returns what is to be painted together.

    Args:
        rng: Source of all random choices.
        camera: The camera.
        layout: The street.
    """

    def __init__(
        self, rng: np.random.Generator, camera: Camera, layout: street_ground.Layout
    ) -> None:
        self.rng, self.camera, self.layout = rng, camera, layout

    def heavy(self, label: str, across: bool) -> list[Item]:
        """A truck, bus or train; trucks and buses may cross the street."""
        if label == 'train':
            return self._tram()
        if across:
            flat = {'truck': truck_side, 'bus': bus_side}[label]
            return self._crossing(label, flat, 3.2, (16, 24))
        draw = {'truck': street_traffic.truck, 'bus': street_traffic.bus}[label]
        return self._along(label, draw, (11, 20), 1.5)

    def car(self) -> list[Item]:
        """A car on its lane, or crossing."""
        if self.rng.random() < 0.2:
            return self._crossing('car', car_side, 1.6, (11, 20))
        return self._along('car', street_traffic.car, (8.5, 26), 1.15)

    def two_wheeler(self, label: str) -> list[Item]:
        """A bicycle or motorcycle, mostly with a rider on it."""
        rng, z = self.rng, self.rng.uniform(7.5, 12.5)
        draw, height, saddle, sit = {
            'bicycle': (bicycle, 1.35, (0.45, 0.44), 1.5),
            'motorcycle': (motorbike, 1.4, (0.54, 0.46), 1.55),
        }[label]
        x = rng.uniform(self.layout.left, self.layout.right)
        parts = draw(rng, vary(rng, pick(rng, COLOURS[label]), 10))
        flat = [Item(z, label, parts, True)]
        if rng.random() < 0.75:
            x0, y0, x1, y1 = bounds(parts)
            figure = rider(rng, vary(rng, pick(rng, COLOURS['rider']), 10))
            tall = (y1 - y0) * sit / height
            hip = x0 + (x1 - x0) * saddle[0] - tall * 0.42
            foot = y0 + (y1 - y0) * (1 - saddle[1] + 0.36)
            flat.append(Item(z, 'rider', fit(figure, hip, foot, tall)))
        return self._stand_group(flat, x, z, height)

    def person(self) -> list[Item]:
        """Somebody on the sidewalk or at its edge."""
        rng, z = self.rng, self.rng.uniform(7.5, 17)
        side = pick(rng, (-1, 1))
        x = self.layout.path(side) + side * rng.uniform(-0.6, self.layout.walk)
        figure = person(rng, vary(rng, pick(rng, COLOURS['person']), 12))
        return [Item(z, 'person', self._stand(figure, x, z, rng.uniform(1.7, 2.0)), True)]

    def post(self, kind: str) -> list[Item]:
        """A pole with a 'light', a 'sign' or nothing on it."""
        rng, z = self.rng, self.rng.uniform(9, 16)
        side = pick(rng, (-1, 1))
        x = self.layout.edge(side) + side * rng.uniform(0.2, 0.8)
        # The picture's upper edge bounds what can be hung up at this distance.
        top = min(6.5, self.camera.eye + 0.9 * self.camera.horizon / self.camera.scale(z))
        arm = -side * rng.uniform(1.6, 2.8) if kind == 'light' and rng.random() < 0.5 else 0
        parts = street_signs.pole(rng, self.camera, x, z, top, arm)
        group = [Item(z, 'pole', parts)]
        if kind == 'light':
            light = street_signs.traffic_light(rng, self.camera, x + arm, top - 1.3, z)
            group.append(Item(z, 'traffic light', light))
        elif kind == 'sign':
            sign = street_signs.traffic_sign(rng, self.camera, x, top - 0.9, z)
            group.append(Item(z, 'traffic sign', sign))
        return group

    def tree(self) -> list[Item]:
        """A tree behind the sidewalk."""
        side, z = pick(self.rng, (-1, 1)), self.rng.uniform(14, 40)
        x = self.layout.path(side) + side * (self.layout.walk + self.rng.uniform(0.2, 1.5))
        return [Item(z, 'vegetation', street_sides.tree(self.rng, self.camera, x, z))]

    def bin(self) -> list[Item]:
        """Something static that no class covers."""
        side, z = pick(self.rng, (-1, 1)), self.rng.uniform(9, 20)
        x = self.layout.path(side) + side * self.layout.walk
        return [Item(z, 'static', street_sides.bin_or_box(self.rng, self.camera, x, z), True)]

    def _lane(self, margin: float) -> tuple[float, bool]:
        """Middle of a lane, and whether its traffic comes towards the camera."""
        if self.rng.random() < 0.5:
            return self.layout.left + margin + self.rng.uniform(0, 0.5), True
        return self.layout.right - margin - self.rng.uniform(0, 0.3), False

    def _along(self, label: str, draw, distances: tuple[float, float], margin: float):
        rng = self.rng
        x, oncoming = self._lane(margin)
        z = rng.uniform(*distances)
        colour = vary(rng, pick(rng, COLOURS[label]), 10)
        return [Item(z, label, draw(rng, self.camera, x, z, colour, oncoming), True)]

    def _tram(self) -> list[Item]:
        x, z = street_ground.tram_line(self.layout), self.rng.uniform(10, 17)
        colour = vary(self.rng, pick(self.rng, COLOURS['train']), 10)
        parts = street_traffic.tram(self.rng, self.camera, x, z, colour, True)
        return [Item(z, 'train', parts, True)]

    def _stand(self, parts: list[Part], x: float, z: float, height: float, stretch=1.0):
        """Stand a flat drawing on the street with its middle at x."""
        x0, y0, x1, y1 = bounds(parts)
        scale = self.camera.scale(z)
        width = height * scale * (x1 - x0) / (y1 - y0) * stretch
        foot_x, foot_y = self.camera(x, 0, z)
        flip = bool(self.rng.random() < 0.5)
        return fit(parts, foot_x - width / 2, foot_y, height * scale, stretch, flip)

    def _crossing(self, label: str, draw, height: float, distances: tuple[float, float]):
        """A vehicle that crosses the street, seen from the side."""
        rng, z = self.rng, self.rng.uniform(*distances)
        parts = draw(rng, vary(rng, pick(rng, COLOURS[label]), 10))
        x = rng.uniform(self.layout.left + 1, self.layout.right - 1)
        return [Item(z, label, self._stand(parts, x, z, height), True)]

    def _stand_group(self, group: list[Item], x: float, z: float, height: float) -> list[Item]:
        """Stand drawings that belong together; the height is that of the first."""
        x0, _, x1, bottom = bounds(group[0].parts)
        scale = self.camera.scale(z) * height / (bottom - bounds(group[0].parts)[1])
        foot = np.array(self.camera(x, 0, z))
        sign = 1 if self.rng.random() < 0.5 else -1
        factor = np.array([sign * self.rng.uniform(0.75, 1.0), 1.0]) * scale
        origin = np.array([(x0 + x1) / 2, bottom])
        return [
            item._replace(
                parts=[p._replace(points=(p.points - origin) * factor + foot) for p in item.parts]
            )
            for item in group
        ]
