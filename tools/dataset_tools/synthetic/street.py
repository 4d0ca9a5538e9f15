"""Street scenes: a random arrangement of objects, painted from far to near."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from . import drawings
from .camera import Block, Camera
from .canvas import Canvas, Frame, Part, Rng, bounds, box, disc, fit, mix, pick, shade, vary

NEAR, FAR = 2.0, 140.0  # distances in metres between which the ground is drawn
SKIES = (  # zenith, horizon
    ((86, 142, 208), (206, 226, 240)),
    ((128, 168, 210), (232, 236, 238)),
    ((176, 186, 198), (226, 228, 230)),
    ((96, 124, 180), (248, 214, 178)),
)
PLASTERS = ((214, 192, 152), (190, 182, 172), (202, 164, 122), (168, 172, 180), (222, 210, 190))
LEAVES = ((48, 92, 40), (62, 104, 46), (40, 80, 48), (84, 108, 40))
PAINTS = ((196, 40, 40), (40, 84, 170), (224, 224, 220), (60, 62, 66), (160, 166, 172))
COATS = ((176, 60, 66), (60, 84, 140), (120, 90, 60), (70, 70, 76))
VESTS = ((230, 240, 60), (250, 140, 30), (80, 200, 220))
VEHICLES = {  # colours, distance from the edge of the road, range of distances from the camera
    'car': (PAINTS, 1.2, (8.5, 26)),
    'truck': (((40, 84, 170), (226, 120, 30), (46, 110, 74)), 1.5, (11, 20)),
    'bus': (((240, 184, 30), (232, 150, 24)), 1.5, (11, 20)),
    'train': (((20, 130, 120), (150, 24, 70)), 1.7, (10, 17)),
}
FIGURES = {  # drawing, colours, height in metres, offset of a rider
    'person': (drawings.person, COATS, 1.85, None),
    'bicycle': (drawings.bicycle, ((206, 40, 40), (30, 110, 190), (40, 140, 80)), 1.35, (27, -13)),
    'motorcycle': (drawings.motorcycle, ((206, 30, 36), (230, 90, 20)), 1.4, (48, -10)),
}
BORDERS = {  # depth, height in metres, colours; tiles: size of a cell in metres, ranges, colour
    'building': (9, (9, 16), PLASTERS, (
        (2.8, 3.2, (0.14, 0.86), (0.2, 0.84), (236, 230, 220)),
        (2.8, 3.2, (0.24, 0.76), (0.26, 0.78), drawings.GLASS),
    )),
    'wall': (0.5, (2.6, 3.4), ((212, 180, 160),), ((1.1, 0.4, (0, 0.9), (0, 0.8), (152, 74, 58)),)),
    'fence': (0.15, (2.2, 2.9), ((64, 74, 70),), ((0.6, 9, (0.2, 0.7), (0, 1), (218, 222, 220)),)),
    'vegetation': (1.5, (1.8, 3.2), LEAVES, ()),
}  # fmt: skip
SIGNALS = {'traffic light': drawings.traffic_light, 'traffic sign': drawings.traffic_sign}
HEAVY = ('truck', 'bus', 'train')  # each scene has the one whose turn it is
# Strength of fine and coarse noise.
TEXTURE = {'vegetation': (9, 12), 'terrain': (8, 9), 'road': (5, 3), 'sky': (1, 1.5)}


class Item(NamedTuple):
    """An object to paint: its distance, class and drawing in pixels."""

    z: float
    label: str
    parts: list[Part]


class StreetScene:
    """One scene; rare classes and objects depend on ``turn``, so that consecutive scenes differ."""

    def __init__(self, rng: Rng, width: int, height: int, turn: int = 0) -> None:
        self.rng, self.turn = rng, turn
        self.canvas = Canvas(rng, width, height)
        self.camera = Camera(
            centre=width * rng.uniform(0.44, 0.56),
            horizon=height * rng.uniform(0.38, 0.47),
            # Narrow images show both sides of the street, too.
            focal=min(height, width / 2) * rng.uniform(1.45, 1.75),
            eye=rng.uniform(1.7, 2.3),
        )
        # Metres to the right of the camera: the edges of the road, and the fronts of the houses.
        self.edge = {-1: -rng.uniform(4.6, 6.4), 1: rng.uniform(3.0, 4.0)}
        self.walk = rng.uniform(2.2, 3.2)  # width of the sidewalks; behind them is grass
        self.front = {s: x + s * (self.walk + rng.uniform(1, 5)) for s, x in self.edge.items()}
        self.items: list[Item] = []
        self.frames: list[Frame] = []

    def paint(self) -> Canvas:
        """Arrange and paint all objects."""
        rng = self.rng
        self.paint_background()
        for side in (-1, 1):
            self._line_side(side)
        heavy = HEAVY[self.turn % 3], pick(rng, HEAVY[:2])
        for kind in (*heavy, *['car'] * rng.integers(2, 5)):
            self._place(self._vehicle, kind)
        for kind in ('bicycle', 'motorcycle', *['person'] * rng.integers(2, 5)):
            if kind == 'person' or rng.random() < 0.75:
                self._place(self._figure, kind)
        for kind in ('traffic light', 'traffic sign', pick(rng, ('traffic light', 'pole'))):
            self._place(self._post, kind)
        for item in sorted(self.items, key=lambda item: -item.z):
            self._paint_item(item)
        # The bonnet of the car with the camera, which Cityscapes ignores in training.
        width, height, rise = self.canvas.width, self.canvas.height, rng.uniform(0.05, 0.09)
        bonnet = width / 2, height * (1 + rise), width * 0.56, height * rise * 2
        self._paint('ego vehicle', [disc(*bonnet, vary(rng, (70, 74, 80)))])
        self.canvas.expose(rng)
        return self.canvas

    def paint_background(self) -> Canvas:
        """Paint the sky, the ground, the street, and houses and bushes far away."""
        rng, width, horizon = self.rng, self.canvas.width, self.camera.horizon
        zenith, self.haze = (vary(rng, colour, 10) for colour in pick(rng, SKIES))
        parts = []
        for y0, y1 in itertools.pairwise(np.linspace(0, horizon + 2, 25)):
            parts.append(box(-1, y0 - 1, width + 1, y1 + 1, mix(zenith, self.haze, y0 / horizon)))
        for _ in range(rng.integers(0, 5)):  # clouds
            x, y = rng.uniform(0, width), rng.uniform(0.05, 0.6) * horizon
            offsets = rng.uniform((-0.4, -0.04, 0.06), (0.4, 0.04, 0.14), (5, 3)) * horizon
            for dx, dy, size in offsets:
                parts.append(disc(x + dx, y + dy, size * 2.2, size, shade(self.haze, 0.4), False))
        self._paint('sky', parts)
        grass = box(-1, horizon, width + 1, self.canvas.height + 1, vary(rng, (146, 176, 84), 14))
        self._paint('terrain', [grass])
        for x in np.arange(-5, width, self.canvas.height * 0.2):
            self._paint_distance(x, x + self.canvas.height * 0.2, horizon, self.camera.focal / 110)
        self._paint_street()
        return self.canvas

    def _paint(self, label: str, parts: list[Part]) -> None:
        self.canvas.paint(label, parts, *TEXTURE.get(label, (4, 2)))

    def _paint_distance(self, x0: float, x1: float, horizon: float, metre: float) -> None:
        """Paint a house or bushes far away, between two columns of the image."""
        rng, green = self.rng, self.rng.random() < 0.5
        colour = mix(vary(rng, pick(rng, LEAVES if green else PLASTERS)), self.haze, 0.35)
        top = horizon - (2 if green else rng.uniform(5, 12)) * metre
        parts = [box(x0, top, x1, horizon + 2.4 * metre, colour)]
        if green:
            for x in np.arange(x0, x1, 2 * metre):
                size = rng.uniform(2, 4) * metre
                parts.append(disc(x, top, size, size, vary(rng, colour)))
        else:
            xs, ys = np.arange(x0, x1 - 2 * metre, 3 * metre), np.arange(top, horizon, 3 * metre)
            for x, y in itertools.product(xs + metre, ys + metre):
                parts.append(box(x, y, x + 1.4 * metre, y + 1.6 * metre, drawings.GLASS, False))
        self._paint('vegetation' if green else 'building', parts)

    def _paint_street(self) -> None:
        """Paint the sidewalks and the road, with lane marks, rails and sometimes a crossing."""
        rng, strip, (left, right) = self.rng, self.camera.strip, self.edge.values()
        for side, inner in self.edge.items():
            stone, outer = vary(rng, (196, 168, 160), 10), inner + side * self.walk
            joint, zs = shade(stone, -0.2), np.arange(4, 40, 1.4)
            parts = [strip(inner, outer, NEAR, FAR, stone)]
            parts += [strip(inner, outer, z, z + 0.07, joint) for z in zs]
            kerb = strip(inner, inner + side * 0.28, NEAR, FAR, shade(stone, 0.45))
            self._paint('sidewalk', [*parts, kerb])
        asphalt, middle = vary(rng, (98, 98, 104)), (left + right) / 2
        paint, zs = shade(asphalt, rng.uniform(0.65, 0.85)), np.arange(rng.uniform(2, 6), 80, 6)
        parts = [strip(left, right, NEAR, FAR, asphalt)]
        parts += [strip(middle - 0.09, middle + 0.09, z, z + 3, paint) for z in zs]
        parts += [strip(x - 0.07, x + 0.07, NEAR, FAR, paint) for x in (left + 0.4, right - 0.4)]
        if HEAVY[self.turn % 3] == 'train':
            steel, rails = shade(asphalt, -0.45), (left + 0.95, left + 2.45)
            parts += [strip(x - 0.08, x + 0.08, NEAR, FAR, steel) for x in rails]
        if rng.random() < 0.3:
            z, xs = rng.uniform(7, 13), np.arange(left + 0.7, right - 0.8, 1.0)
            parts += [strip(x, x + 0.5, z, z + 3, paint) for x in xs]
        self._paint('road', parts)

    def _line_side(self, side: int) -> None:
        """Add houses, walls, fences, hedges and trees along one side of the street."""
        rng, x = self.rng, self.front[side]
        stops = [7.0, rng.uniform(24, 30), rng.uniform(38, 46), rng.uniform(58, 70), 110.0]
        for n, (z0, z1) in enumerate(itertools.pairwise(stops)):
            # The nearest one depends on the turn, so that small data sets have all kinds.
            near = list(BORDERS)[(self.turn // 3 + side) % len(BORDERS)]
            label = pick(rng, ('building', *BORDERS)) if n else near
            self.items.append(Item(z1 - 0.5, label, self._border(label, x, z0, z1)))
        for z in rng.uniform(14, 40, rng.integers(1, 4)):
            x = self.edge[side] + side * (self.walk + rng.uniform(0.2, 1.5))
            parts = drawings.tree(rng, vary(rng, pick(rng, LEAVES)))
            tall = rng.uniform(5.5, 7.5) * self.camera.focal / z
            self.items.append(Item(z, 'vegetation', fit(parts, *self.camera(x, 0, z), tall)))

    def _border(self, label: str, x: float, z0: float, z1: float) -> list[Part]:
        """A house, wall, fence or hedge from z0 to z1, whose face towards the street is at x."""
        rng, (depth, heights, colours, patterns) = self.rng, BORDERS[label]
        colour, height = vary(rng, pick(rng, colours)), rng.uniform(*heights)
        block = Block(self.camera, x, x + np.copysign(depth, x), 0, height, z0, z1)
        parts = block.shell(colour)
        for width, tall, us, vs, tile in patterns:
            for face, length in ((block.side, z1 - z0), (block.front, depth)):
                columns, rows = max(1, round(length / width)), max(1, round(height / tall))
                parts += face.tiles(columns, rows, us, vs, vary(rng, tile, 6))
        if label != 'vegetation':
            return [*parts, block.side.rect(0, 0.95, 1, 1, shade(colour, -0.2))]
        for z in np.arange(z0, z1, 0.8)[::-1]:  # a hedge has no straight edge
            size = self.camera.focal / z * rng.uniform(0.6, 1.0)
            middle, top = (
                self.camera(x, height * rng.uniform(*v), z) for v in ((0.2, 0.7), (0.85, 1))
            )
            parts.append(disc(*top, size, size * 0.8, vary(rng, colour, 16)))
            parts.append(disc(*middle, size * 0.6, size * 0.5, vary(rng, colour, 16), False))
        return parts

    def _place(self, draw: Callable[[str], list[Item]], kind: str) -> None:
        """Draw a group of objects eight times, and keep the one with the least overlap."""
        groups = [draw(kind) for _ in range(8)]
        frames = [bounds(part for item in group for part in item.parts) for group in groups]
        best = int(np.argmin([self._overlap(frame) for frame in frames]))
        self.items += groups[best]
        self.frames.append(frames[best])

    def _overlap(self, frame: Frame) -> float:
        """The share of a frame outside the image or over frames that are already placed."""
        frames = np.array([(0, 0, self.canvas.width, self.canvas.height), frame, *self.frames])
        low, high = np.maximum(frames[:, :2], frame[:2]), np.minimum(frames[:, 2:], frame[2:])
        inside, size, *shared = np.clip(high - low, 0, None).prod(1)
        areas = (frames[2:, 2:] - frames[2:, :2]).prod(1)
        return 1 - inside / size + np.sum(shared / np.minimum(size, areas))

    def _vehicle(self, kind: str) -> list[Item]:
        rng, (colours, margin, distances) = self.rng, VEHICLES[kind]
        z, colour = rng.uniform(*distances), vary(rng, pick(rng, colours), 10)
        oncoming = kind == 'train' or bool(rng.random() < 0.5)
        x = self.edge[-1] + margin if oncoming else self.edge[1] - margin
        parts = drawings.vehicle(rng, kind, self.camera, x, z, colour, oncoming)
        return [Item(z, kind, parts)]

    def _figure(self, kind: str) -> list[Item]:
        """A person on the sidewalk, or a bicycle or motorcycle on the road, often with a rider."""
        rng, z, (draw, colours, height, seat) = self.rng, self.rng.uniform(7.5, 14), FIGURES[kind]
        group = {kind: draw(rng, vary(rng, pick(rng, colours), 10))}
        x = rng.uniform(self.edge[-1], self.edge[1] - 1.5)
        if kind == 'person':
            side = pick(rng, (-1, 1))
            x = self.edge[side] + side * rng.uniform(-0.6, self.walk)
        elif rng.random() < 0.75:
            parts = drawings.rider(rng, vary(rng, pick(rng, VESTS), 10))
            group['rider'] = [part._replace(points=part.points + seat) for part in parts]
        foot, tall = self.camera(x, 0, z), height * rng.uniform(0.95, 1.1) * self.camera.focal / z
        stretch, frame = pick(rng, (-1, 1)) * rng.uniform(0.8, 1), bounds(group[kind])
        return [Item(z, k, fit(parts, *foot, tall, stretch, frame)) for k, parts in group.items()]

    def _post(self, kind: str) -> list[Item]:
        """A pole, or one with a traffic light or sign, enlarged so that small images show it."""
        rng, z, side = self.rng, self.rng.uniform(9, 16), pick(self.rng, (-1, 1))
        x, steel = self.edge[side] + side * rng.uniform(0.2, 0.8), vary(rng, (92, 98, 92), 8)
        # At this distance, a light or sign must be below the upper edge of the image.
        metre = self.camera.focal / z
        top = min(6.5, self.camera.eye + 0.9 * self.camera.horizon / metre)
        face = Block(self.camera, x - 0.2, x + 0.2, 0, top, z, z).front
        parts = [face.rect(0, 0, 1, 1, steel, True), face.rect(0.2, 0, 0.4, 1, shade(steel, 0.35))]
        group = [Item(z, 'pole', parts)]
        if kind in SIGNALS:
            middle, parts = self.camera(x, top - 1.2, z), SIGNALS[kind](rng)
            parts = [part._replace(points=part.points * metre + middle) for part in parts]
            group.append(Item(z, kind, parts))
        return group

    def _paint_item(self, item: Item) -> None:
        if item.label in VEHICLES or item.label in FIGURES:
            x0, _, x1, y1 = bounds(item.parts)
            size = (x1 - x0) * 0.54, (x1 - x0) * 0.06 + 1
            self.canvas.darken(disc((x0 + x1) / 2, y1, *size, drawings.BLACK), 0.6)
        share = min(0.4, item.z / 180)
        parts = [part._replace(colour=mix(part.colour, self.haze, share)) for part in item.parts]
        self._paint(item.label, parts)
