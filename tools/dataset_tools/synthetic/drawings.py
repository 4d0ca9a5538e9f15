"""Drawings of single objects: vehicles, people, street furniture and the classes of VOC."""

from __future__ import annotations

from functools import partial

import numpy as np

from .camera import Block, Camera
from .canvas import Colour, Part, Rng, bar, bounds, box, disc, fit, pick, poly, shade, vary

BLACK, WHITE, GLASS = (22, 22, 26), (240, 240, 236), (58, 78, 96)
TYRE, STEEL, RED, BLUE = (28, 28, 30), (170, 172, 176), (206, 24, 30), (24, 84, 190)
SKINS = ((236, 196, 166), (214, 164, 128), (168, 116, 82), (112, 76, 54))
HAIRS = ((36, 28, 24), (92, 60, 36), (170, 128, 70), (128, 126, 124))
TROUSERS = ((40, 48, 76), (58, 54, 52), (34, 34, 38), (110, 92, 70))
# The boxes of a vehicle, from far to near: half the width, lower and upper edge, near and far end
# (in metres); how much lighter than the vehicle's colour; the share of the height, from below, in
# that colour; number of windows on the long side.
VEHICLES = {
    'car': ((0.93, 0.25, 0.95, 0, 4.2, 0, 0, 0), (0.74, 0.9, 1.55, 1, 3.4, 0, 0, 2)),
    'bus': ((1.3, 0.35, 3.2, 0, 10, 0, 0, 6),),
    'truck': ((1.3, 0.6, 3.7, 2, 8, 0.75, 0.2, 0), (1.2, 0.4, 2.8, 0, 1.9, 0, 0, 1)),
    'train': ((1.3, 0.25, 3.5, 0, 22, 0.8, 0.4, 9),),
}


def vehicle(
    rng: Rng, kind: str, camera: Camera, x: float, z: float, colour: Colour, oncoming: bool
) -> list[Part]:
    """A vehicle in the direction of the street, with its centre at x and its near end at z."""
    parts, boxes = [], VEHICLES[kind]
    if kind == 'truck' and not oncoming:
        boxes = boxes[:1]  # the cargo hides the cab
    for half, y0, y1, start, end, light, painted, windows in boxes:
        block = Block(camera, x - half, x + half, y0, y1, z + start, z + end)
        parts += block.shell(shade(colour, light))
        for face in (block.side, block.front):
            parts.append(face.rect(0, 0, 1, painted, colour))
        if windows:
            parts += block.side.tiles(windows, 1, (0.1, 0.9), (0.5, 0.85), GLASS)
            parts.append(block.front.rect(0.08, 0.45, 0.92, 0.85, GLASS))
        if y0 < 0.9:
            parts += _wheels(block, 0.34 if kind == 'car' else 0.5)
        if start == 0 or not oncoming:
            lamp = (255, 240, 190) if oncoming else (206, 26, 30)
            low, high = (0.5, 0.85) if kind == 'car' else (0.08, 0.2)
            parts += [block.front.rect(u, low, u + 0.18, high, lamp) for u in (0.03, 0.79)]
            parts.append(block.front.rect(0.36, low - 0.06, 0.64, low + 0.05, WHITE))
    return parts


def _wheels(block: Block, radius: float) -> list[Part]:
    """Two wheels on the long side, and the visible parts of the wheels under the near face."""
    (y0, y1), (_, _, z0, z1) = block.heights, block.area
    parts = [block.front.rect(u, y0 / (y0 - y1), u + 0.14, 0, TYRE, True) for u in (0.02, 0.84)]
    for z in (z0 * 0.2 + z1 * 0.8, z0 * 0.8 + z1 * 0.2):
        for size, colour in ((radius, TYRE), (radius / 2, STEEL)):
            circle = disc(z, radius, size, size, colour).points
            points = [block.camera(block.inner, y, z) for z, y in circle]
            parts.append(poly(points, colour, size == radius))
    return parts


# Side views of objects that face left; about 100 units high.


def bicycle(rng: Rng, colour: Colour) -> list[Part]:
    """A bicycle: two large spoked wheels and a diamond frame."""
    parts, width = [], rng.uniform(6, 8)
    for x in (36, 134):
        parts += [disc(x, 64, 36, 36, TYRE), disc(x, 64, 30, 30, (206, 208, 210), False)]
        for angle in np.arange(4) * np.pi / 4:
            dx, dy = 30 * np.cos(angle), 30 * np.sin(angle)
            parts.append(bar((x - dx, 64 - dy), (x + dx, 64 + dy), 2, (120, 122, 126), False))
    joints = [(36, 64), (54, 18), (78, 66), (102, 18), (134, 64), (50, 2), (104, 8)]
    for a, b in ((0, 1), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (1, 5), (3, 6)):
        parts.append(bar(joints[a], joints[b], width, colour))
    return [*parts, bar((38, 2), (58, 2), 6, BLACK), bar((92, 8), (118, 8), 8, BLACK)]


def motorcycle(rng: Rng, colour: Colour) -> list[Part]:
    """A motorcycle: fat wheels, engine, fork, lamp, tank, seat and exhaust."""
    parts = [
        poly([(34, 70), (56, 36), (136, 44), (142, 72), (70, 88)], (74, 76, 82)),
        bar((28, 72), (60, 8), 9, STEEL),
        disc(46, 28, 10, 10, (250, 240, 190)),
        poly([(58, 24), (96, 24), (108, 46), (64, 48)], colour),
        poly([(96, 36), (rng.uniform(126, 140), 36), (160, 26), (156, 54), (104, 50)], BLACK),
        bar((86, 86), (164, 78), 9, STEEL),
    ]
    for x in (30, 146):
        parts += [disc(x, 72, 28, 28, TYRE), disc(x, 72, 13, 13, STEEL, False)]
    return parts


def person(rng: Rng, colour: Colour) -> list[Part]:
    """A walking or standing person in a coat of the given colour."""
    skin, hair, cloth = pick(rng, SKINS), pick(rng, HAIRS), pick(rng, TROUSERS)
    step, swing = rng.uniform(1, 9), rng.uniform(2, 9)
    parts = [poly([(9, 20), (27, 20), (30, 56), (6, 56)], colour)]
    for side in (-1, 1):
        foot, hand = 18 + side * (4 + step), 18 + side * (12 + swing)
        parts.append(bar((18 + side * 4, 52), (foot, 95), 8.5, cloth))
        parts.append(bar((foot - 4, 97), (foot + 4, 97), 6, BLACK))
        parts.append(bar((18 + side * 8, 23), (hand, 53), 6.5, shade(colour, -0.2)))
        parts.append(disc(hand, 54, 3.5, 3.5, skin))
    head = [box(15, 14, 21, 22, skin), disc(18, 9, 7, 8.5, skin)]
    return [*parts, *head, poly([(10, 9), (12, 0), (24, 0), (26, 9), (22, 4), (14, 4)], hair)]


def rider(rng: Rng, colour: Colour) -> list[Part]:
    """A sitting person with a helmet, leaning to the left."""
    skin, cloth = pick(rng, SKINS), pick(rng, TROUSERS)
    helmet = pick(rng, ((240, 70, 30), (245, 210, 40), (250, 250, 250)))
    return [
        poly([(28, 22), (48, 26), (66, 62), (46, 66)], colour),
        bar((54, 62), (26, 72), 12, cloth),
        bar((26, 72), (34, 98), 10, cloth),
        bar((28, 99), (42, 99), 6, BLACK),
        bar((36, 28), (8, 54), 8, shade(colour, -0.2)),
        disc(34, 14, 10, 13, skin),
        poly([(21, 9), (25, -2), (36, -5), (46, 2), (47, 13), (34, 7)], helmet),
    ]


def tree(rng: Rng, colour: Colour) -> list[Part]:
    """A trunk, and a crown of discs that are lighter above."""
    parts = [bar((0, 100), (0, 35), 8, vary(rng, (84, 64, 48), 10))]
    for n, angle in enumerate(rng.uniform(0, 6.28) + np.arange(24) * 0.9):
        reach, size = (20, rng.uniform(18, 24)) if n < 7 else (rng.uniform(0, 32), 5)
        dx, dy = np.cos(angle) * reach, np.sin(angle) * reach
        leaves = vary(rng, colour if n < 7 else shade(colour, -0.01 * dy), 10)
        parts.append(disc(dx, 38 + dy, size, size, leaves, n < 7))
    return parts


# Objects on poles, in metres around their centre.


def traffic_light(rng: Rng) -> list[Part]:
    """A traffic light with one of its three lamps on."""
    parts = [box(-0.48, -1.15, 0.48, 1.15, (206, 170, 40))]
    parts.append(box(-0.4, -1.15, 0.4, 1.15, (38, 36, 20), False))
    lit = rng.integers(3)
    for n, lamp in enumerate(((240, 30, 30), (255, 190, 30), (40, 230, 110))):
        colour = lamp if n == lit else shade(lamp, -0.6)
        parts.append(disc(0, (n - 1) * 0.74, 0.31, 0.31, colour, False))
    return parts


def traffic_sign(rng: Rng) -> list[Part]:
    """A warning sign, a no-entry sign or a direction sign."""
    triangle = np.array([(0, -0.85), (0.9, 0.72), (-0.9, 0.72)])
    arrow = [(0, -0.64), (0.42, -0.05), (0.13, -0.05), (0.13, 0.55), (-0.13, 0.55), (-0.13, -0.05)]
    signs = (
        [poly(triangle, RED), poly(triangle * 0.55 + (0, 0.08), WHITE, False)],
        [disc(0, 0, 0.85, 0.85, RED), box(-0.55, -0.16, 0.55, 0.16, WHITE, False)],
        [disc(0, 0, 0.85, 0.85, BLUE), poly([*arrow, (-0.42, -0.05)], WHITE, False)],
    )
    return pick(rng, signs)


# The other classes of VOC, as polygons. The first has the object's colour, the next are lighter.
PICTOGRAMS = {
    'aeroplane': '0 50 14 42 200 42 236 50 200 60 14 60; 190 46 226 4 232 52; 90 54 176 96 140 54',
    'bird': '0 34 18 18 40 14 58 34 150 56 78 82 80 100 54 100 56 80 22 42; 60 42 108 50 80 72',
    'boat': '0 74 160 74 136 100 24 100; 74 -50 82 -50 82 76 74 76; 80 -44 146 66 18 66',
    'bottle': '12 0 22 0 22 28 34 42 34 100 0 100 0 42 12 28; 0 56 34 56 34 80 0 80',
    'cat': '19 24 20 0 36 12 48 12 64 0 66 26 60 46 76 80 70 100 14 100 8 80 24 46',
    'chair': '0 0 10 0 10 52 52 52 52 100 44 100 44 62 10 62 10 100 0 100',
    'cow': '0 40 4 24 16 16 14 4 28 14 150 20 158 98 144 98 140 66 76 68 74 98 60 98 34 42',
    'diningtable': '0 20 190 20 190 34 170 34 170 99 158 99 158 34 32 34 32 99 20 99 20 34 0 34',
    'dog': '0 32 24 14 44 14 56 30 118 34 138 10 124 100 112 100 106 68 62 68 58 100 46 100 6 42',
    'horse': '4 38 36 -6 72 36 136 44 144 82 124 100 114 100 108 62 74 62 68 100 56 100 44 30',
    'pottedplant': '40 66 0 40 14 4 34 20 42 -6 50 20 68 6 82 42; 14 60 66 60 55 100 25 100',
    'sheep': '24 40 50 26 66 18 84 24 102 18 132 32 120 98 110 98 106 72 72 72 68 98 58 98',
    'sofa': '0 40 20 34 24 6 186 6 190 34 210 40 210 100 0 100; 22 50 188 50 188 72 22 72',
    'tvmonitor': '0 0 136 0 136 80 78 80 96 100 40 100 58 80 0 80; 8 8 128 8 128 72 8 72',
}


def _pictogram(name: str, rng: Rng, colour: Colour) -> list[Part]:
    polygons = [np.array(text.split(), float) for text in PICTOGRAMS[name].split(';')]
    return [poly(p.reshape(-1, 2), shade(colour, 0.25 * n)) for n, p in enumerate(polygons)]


def _parked(kind: str, rng: Rng, colour: Colour) -> list[Part]:
    camera = Camera(centre=0, horizon=0, focal=300, eye=2)
    return vehicle(rng, kind, camera, rng.uniform(3, 5), rng.uniform(8, 10), colour, True)


DRAWINGS = {name: partial(_pictogram, name) for name in PICTOGRAMS}
DRAWINGS |= {name: partial(_parked, name) for name in ('bus', 'car', 'train')}
DRAWINGS |= {'bicycle': bicycle, 'motorbike': motorcycle, 'person': person}
DRAWINGS = dict(sorted(DRAWINGS.items()))  # the order of the classes in VOC and in the toolboxes
TINTS = ((206, 50, 46), (50, 90, 190), (60, 150, 76), (236, 190, 50), (140, 74, 170))
TINTS += ((230, 130, 40), (70, 180, 190), (90, 90, 96), (140, 90, 50), (226, 120, 170))
BANDS = (None, WHITE, (30, 30, 60), (250, 220, 60), (190, 30, 40))
KINDS = len(DRAWINGS) * len(TINTS) * len(BANDS)


def draw_object(rng: Rng, kind: int, width: int, height: int, share: float) -> list[Part]:
    """Draw an object at a random position, at a share of the largest size that fits.

    The first twenty of the KINDS are the classes of VOC. The next ones are the same drawings in
    another colour, and then with a band across them.
    """
    variant, number = divmod(kind, len(DRAWINGS))
    band, tint = divmod(variant, len(TINTS))
    colour = TINTS[(tint + number) % len(TINTS)]  # shifted, or all classes of VOC would be red
    parts = list(DRAWINGS.values())[number](rng, vary(rng, colour))
    x0, y0, x1, y1 = bounds(parts)
    if BANDS[band]:
        middle = (y0 + y1) / 2
        parts.append(bar((x0, middle), (x1, middle), (y1 - y0) * 0.2, BANDS[band], False))
    ratio = (x1 - x0) / (y1 - y0)
    tall = share * min(height, width / ratio)
    left = rng.uniform(-0.05, 1.05) * (width - tall * ratio)
    bottom = tall + rng.uniform(-0.05, 1.05) * (height - tall)
    return fit(parts, left, bottom, tall, pick(rng, (-1, 1)))
