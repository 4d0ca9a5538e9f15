"""Composition of a street scene: what stands where, painted from far to near."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from . import street_ground, street_sides
from .camera import Camera
from .canvas import Canvas
from .shapes import Colour, Part, bounds, disc, lighter, mix, pick, vary
from .street_cast import Cast, Item

HEAVY = ('truck', 'bus', 'train')
BORDERS = {
    'building': street_sides.building,
    'wall': street_sides.wall,
    'fence': street_sides.fence,
    'vegetation': street_sides.hedge,
}
# The nearest stretch on the left and right takes turns, so that a small set has them all.
NEAR_BORDERS = (
    ('building', 'wall'),
    ('fence', 'building'),
    ('wall', 'vegetation'),
    ('building', 'fence'),
    ('wall', 'fence'),
    ('vegetation', 'building'),
)
TEXTURE = {  # strength of fine and of coarse noise
    'vegetation': (9, 12),
    'terrain': (8, 9),
    'road': (5, 3),
    'sidewalk': (5, 2),
    'building': (4, 3),
    'wall': (6, 4),
    'sky': (1, 1.5),
}


class StreetScene:
    """One scene; the same numbers give the same scene.

    Args:
        rng: Source of all random choices.
        width: Width in pixels.
        height: Height in pixels.
        turn: Running number of the picture; rare classes take turns by it.
    """

    def __init__(self, rng: np.random.Generator, width: int, height: int, turn: int) -> None:
        self.rng, self.turn = rng, turn
        self.canvas = Canvas(rng, width, height)
        self.camera = Camera.random(rng, width, height)
        self.layout = street_ground.Layout.random(rng)
        self.cast = Cast(rng, self.camera, self.layout)
        self.items: list[Item] = []
        self.taken: list[tuple[float, float, float, float]] = []

    def paint(self) -> Canvas:
        """Compose and paint the scene."""
        haze = self._paint_ground()
        for side in (-1, 1):
            self._line_side(side)
        self._add_vehicles()
        self._add_signs()
        self._add_people()
        self._add_greenery()
        for item in sorted(self.items, key=lambda item: -item.z):
            self._paint_item(item, haze)
        self._paint_bonnet()
        self.canvas.expose(self.rng)
        return self.canvas

    # Ground and background

    def _paint_ground(self) -> Colour:
        rng, camera, canvas = self.rng, self.camera, self.canvas
        parts, haze = street_ground.sky(rng, canvas.width, camera.horizon + 2)
        self._put('sky', parts)
        self._put('terrain', street_ground.terrain(rng, camera, canvas.width, canvas.height))
        x = -5.0
        while x < canvas.width:
            end = x + canvas.height * rng.uniform(0.1, 0.3)
            green = rng.random() < 0.45
            draw = street_sides.bushes if green else street_sides.skyline
            self._put('vegetation' if green else 'building', draw(rng, camera, x, end))
            x = end
        rails = HEAVY[self.turn % 3] == 'train'
        for side in (-1, 1):
            self._put('sidewalk', street_ground.sidewalk(rng, camera, self.layout, side))
        self._put('road', street_ground.road(rng, camera, self.layout, rails))
        return haze

    def _put(self, label: str, parts: list[Part]) -> None:
        self.canvas.paint(label, parts, *TEXTURE.get(label, (4, 2)))

    def _line_side(self, side: int) -> None:
        """Houses, walls and the like from the camera to the far end of one side."""
        rng, x = self.rng, self.layout.front(side)
        near = NEAR_BORDERS[(self.turn // 3) % len(NEAR_BORDERS)][0 if side < 0 else 1]
        stops = [7.0, rng.uniform(24, 30), rng.uniform(38, 46), rng.uniform(58, 70), 110.0]
        for n, (z0, z1) in enumerate(itertools.pairwise(stops)):
            label = near if n == 0 else pick(rng, ('building', 'building', *BORDERS))
            parts = BORDERS[label](rng, self.camera, x, z0, z1)
            self.items.append(Item(z1 - 0.5, label, parts))
            if label != 'building' and rng.random() < 0.75:
                self._fill_behind(x + side * rng.uniform(4, 8), z0 + 5, z1)

    def _fill_behind(self, x: float, z0: float, z1: float) -> None:
        """Something that rises behind a low border."""
        if self.rng.random() < 0.5:
            parts = street_sides.building(self.rng, self.camera, x, z0, z1)
            self.items.append(Item(z1 + 0.5, 'building', parts))
            return
        for z in self.rng.uniform(z0, z1, 2):
            self.items.append(
                Item(z1 + 0.1, 'vegetation', street_sides.tree(self.rng, self.camera, x, z))
            )

    # Things on the street

    def _add_vehicles(self) -> None:
        first = HEAVY[self.turn % 3]
        names = [first]
        if self.rng.random() < 0.35:
            names.append(pick(self.rng, [name for name in HEAVY[:2] if name != first]))
        for name in names:
            across = bool(self.rng.random() < 0.25)
            self._place(lambda name=name, across=across: self.cast.heavy(name, across))
        for _ in range(int(self.rng.integers(2, 5))):
            self._place(self.cast.car)
        for name, chance in (('bicycle', 0.75), ('motorcycle', 0.7)):
            if self.rng.random() < chance:
                self._place(lambda name=name: self.cast.two_wheeler(name))

    def _add_people(self) -> None:
        for _ in range(int(self.rng.integers(2, 5))):
            self._place(self.cast.person)

    def _add_signs(self) -> None:
        kinds = [pick(self.rng, ('light', 'sign', 'bare')), pick(self.rng, ('light', 'sign'))]
        if self.rng.random() < 0.6:
            kinds += [{'light': 'sign', 'sign': 'light'}[kinds[1]]]
        for kind in kinds:
            self._place(lambda kind=kind: self.cast.post(kind))

    def _add_greenery(self) -> None:
        for _ in range(int(self.rng.integers(1, 4))):
            self.items += self.cast.tree()
        if self.rng.random() < 0.4:
            self.items += self.cast.bin()

    # Placing and painting

    def _place(self, propose: Callable[[], list[Item]], tries: int = 12) -> None:
        """Take the proposal that hides least and is hidden least."""
        best, best_cost, best_frame = None, np.inf, None
        for _ in range(tries):
            group = propose()
            frames = [bounds(item.parts) for item in group]
            frame = (*np.min(frames, 0)[:2], *np.max(frames, 0)[2:])
            cost = self._cost(frame)
            if cost < best_cost:
                best, best_cost, best_frame = group, cost, frame
            if cost < 0.05:
                break
        self.items += best
        self.taken.append(best_frame)

    def _cost(self, frame: tuple[float, float, float, float]) -> float:
        """Share of a frame, or of one placed before, that would be lost."""
        size = _area(frame)
        inside = _area(_common(frame, (0, 0, self.canvas.width, self.canvas.height)))
        cost = 1 - inside / size
        for other in self.taken:
            cost += _area(_common(frame, other)) / min(size, _area(other))
        return cost

    def _paint_item(self, item: Item, haze: Colour) -> None:
        if item.shadow:
            x0, _, x1, y1 = bounds(item.parts)
            depth = (x1 - x0) * 0.06 + 1
            shadow = disc((x0 + x1) / 2, y1, (x1 - x0) * 0.54, depth, haze).points
            self.canvas.shade(shadow, 0.6)
        share = min(0.4, item.z / 180)
        parts = [part._replace(colour=mix(part.colour, haze, share)) for part in item.parts]
        self._put(item.label, parts)

    def _paint_bonnet(self) -> None:
        """The bonnet of the camera's own car, which Cityscapes leaves out of training."""
        if self.rng.random() < 0.25:
            return
        width, height = self.canvas.width, self.canvas.height
        colour = vary(self.rng, pick(self.rng, ((70, 74, 80), (150, 154, 160), (40, 44, 60))), 8)
        rise = height * self.rng.uniform(0.05, 0.09)
        parts = [disc(width / 2, height + rise, width * 0.56, rise * 2, colour, corners=60)]
        shine = disc(
            width / 2, height + rise, width * 0.4, rise * 1.75, lighter(colour, 0.2), False
        )
        self._put('ego vehicle', [*parts, shine])


def _common(a: tuple, b: tuple) -> tuple[float, float, float, float]:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _area(frame: tuple[float, float, float, float]) -> float:
    return max(0.0, frame[2] - frame[0]) * max(0.0, frame[3] - frame[1])
