"""People and animals, facing left, about 100 units high."""

from __future__ import annotations

import numpy as np

from .shapes import (
    BLACK,
    WHITE,
    Colour,
    Part,
    bar,
    box,
    darker,
    disc,
    lighter,
    pick,
    poly,
    vary,
)

SKINS: tuple[Colour, ...] = ((236, 196, 166), (214, 164, 128), (168, 116, 82), (112, 76, 54))
HAIRS: tuple[Colour, ...] = ((36, 28, 24), (92, 60, 36), (170, 128, 70), (128, 126, 124))
TROUSERS: tuple[Colour, ...] = ((40, 48, 76), (58, 54, 52), (34, 34, 38), (110, 92, 70))


def person(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A walking or standing person in a coat of the given colour."""
    skin, hair, cloth = pick(rng, SKINS), pick(rng, HAIRS), pick(rng, TROUSERS)
    step, swing = rng.uniform(1, 9), rng.uniform(2, 9)
    return [
        poly([(9, 20), (27, 20), (30, 56), (6, 56)], colour),
        bar(14, 52, 14 - step, 95, 8.5, cloth),
        bar(22, 52, 22 + step, 95, 8.5, darker(cloth, 0.15)),
        bar(12 - step, 97, 17 - step, 97, 6, BLACK),
        bar(18 + step, 97, 26 + step, 97, 6, BLACK),
        bar(10, 23, 6 - swing, 53, 6.5, darker(colour, 0.2)),
        bar(26, 23, 30 + swing, 53, 6.5, darker(colour, 0.2)),
        disc(6 - swing, 54, 3.5, 3.5, skin),
        disc(30 + swing, 54, 3.5, 3.5, skin),
        box(15, 14, 21, 22, skin),
        disc(18, 9, 7, 8.5, skin),
        poly([(10, 9), (11, 1), (18, -1), (25, 1), (26, 9), (22, 4), (14, 4)], hair),
    ]


def rider(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A person in the saddle, leaning to the left: helmet, jacket, bent leg."""
    skin, cloth = pick(rng, SKINS), pick(rng, TROUSERS)
    helmet = vary(rng, pick(rng, ((240, 70, 30), (245, 210, 40), (250, 250, 250))), 8)
    return [
        poly([(28, 22), (48, 26), (66, 62), (46, 66)], colour),
        bar(54, 62, 26, 72, 12, cloth),
        bar(26, 72, 34, 98, 10, cloth),
        bar(28, 99, 42, 99, 6, BLACK),
        bar(36, 28, 8, 54, 8, darker(colour, 0.2)),
        disc(7, 55, 4.5, 4.5, skin),
        box(31, 16, 40, 26, skin),
        disc(33, 11, 10, 11, skin),
        poly([(21, 9), (25, -2), (36, -5), (46, 2), (47, 13), (34, 7)], helmet),
        bar(34, 42, 60, 42, 5, lighter(colour, 0.7), False),
    ]


def _legs(xs: tuple[float, ...], top: float, width: float, colour: Colour) -> list[Part]:
    return [box(x, top, x + width, 98, darker(colour, 0.1 * (n % 2))) for n, x in enumerate(xs)]


def dog(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A standing dog: hanging ear, snout, raised tail."""
    tail = rng.uniform(10, 26)
    return [
        disc(78, 54, 46, 18, colour),
        *_legs((40, 52, 100, 112), 56, 8, colour),
        poly([(30, 22), (56, 36), (54, 66), (34, 58)], colour),
        disc(34, 28, 18, 15, colour),
        poly([(4, 30), (28, 22), (28, 42), (6, 42)], lighter(colour, 0.25)),
        disc(6, 33, 4, 4, BLACK),
        disc(44, 34, 7, 17, darker(colour, 0.45)),
        disc(28, 24, 2.5, 2.5, BLACK, False),
        bar(120, 48, 138, tail, 7, colour),
        box(42, 50, 56, 56, (200, 40, 40), False),
    ]


def cat(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A sitting cat seen from the front: pointed ears, whiskers, curled tail."""
    curl = rng.uniform(0.8, 1.2)
    tail = [(70, 92), (96 * curl, 84), (100 * curl, 50), (92 * curl, 50), (88 * curl, 74), (70, 80)]
    stripes = [bar(x, 9, x + 1, 20, 3, darker(colour, 0.4), False) for x in (36, 42, 48)]
    return [
        poly(tail, darker(colour, 0.15)),
        disc(42, 74, 31, 27, colour),
        disc(42, 30, 25, 22, colour),
        poly([(19, 24), (20, -6), (40, 12)], colour),
        poly([(65, 24), (64, -6), (44, 12)], colour),
        disc(42, 76, 13, 18, lighter(colour, 0.5), False),
        disc(33, 27, 5, 5, (196, 220, 90), False),
        disc(51, 27, 5, 5, (196, 220, 90), False),
        disc(33, 27, 1.8, 4.5, BLACK, False),
        disc(51, 27, 1.8, 4.5, BLACK, False),
        poly([(39, 36), (45, 36), (42, 40)], (220, 120, 130), False),
        *stripes,
        *[
            bar(a, 40, b, c, 1.5, WHITE, False)
            for a in (38, 46)
            for b in (18, 66)
            for c in (36, 44)
        ],
        disc(28, 96, 10, 6, lighter(colour, 0.3)),
        disc(56, 96, 10, 6, lighter(colour, 0.3)),
    ]


def cow(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A standing cow: heavy body, horns, patches, udder."""
    patch = BLACK if sum(colour) > 300 else WHITE
    spots = [
        disc(rng.uniform(55, 140), rng.uniform(30, 58), rng.uniform(9, 16), 10, patch, False)
        for _ in range(4)
    ]
    return [
        poly([(44, 22), (150, 20), (158, 34), (156, 66), (60, 72), (34, 42)], colour),
        *_legs((56, 70, 130, 144), 60, 11, colour),
        *spots,
        disc(122, 70, 11, 9, (232, 160, 160)),
        poly([(14, 16), (48, 18), (56, 44), (30, 44), (18, 50), (4, 44)], colour),
        disc(9, 44, 11, 8, (232, 176, 170)),
        poly([(24, 18), (16, -2), (30, 14)], (236, 226, 196)),
        poly([(38, 18), (46, -2), (46, 16)], (236, 226, 196)),
        disc(50, 20, 9, 5, darker(colour, 0.3)),
        disc(26, 26, 3, 3, BLACK, False),
        bar(156, 28, 164, 72, 4, darker(colour, 0.2)),
    ]


def horse(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A standing horse: long neck and head, mane, full tail."""
    mane = darker(colour, 0.6)
    rear = rng.uniform(0, 8)
    return [
        disc(86, 50, 40, 16, colour),
        *_legs((52, 64, 106 + rear, 116), 50, 7, colour),
        poly([(28, 6), (44, 4), (70, 40), (60, 60), (46, 48)], colour),
        poly([(44, 0), (54, 10), (76, 38), (64, 38), (42, 10)], mane),
        poly([(30, 2), (44, 8), (40, 20), (14, 38), (4, 32), (8, 24)], colour),
        poly([(34, 6), (36, -6), (42, 4)], colour),
        disc(28, 14, 2.5, 2.5, BLACK, False),
        poly([(120, 40), (136, 46), (140, 82), (132, 84), (126, 58)], mane),
        *[box(x, 92, x + 7, 98, BLACK, False) for x in (52, 64, 106 + rear, 116)],
    ]


def sheep(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A woolly sheep: cloud of a body, dark face and legs."""
    wool = lighter(colour, 0.7)
    dark = (52, 46, 44)
    parts = _legs((52, 66, 98, 112), 70, 8, dark)
    for angle in np.arange(12) * np.pi / 6 + rng.uniform(0, 0.5):
        parts.append(disc(84 + 40 * np.cos(angle), 50 + 22 * np.sin(angle), 15, 14, wool))
    parts += [
        disc(84, 50, 42, 25, wool),
        *[disc(x, y, 6, 5, darker(wool, 0.1), False) for x in (66, 86, 106) for y in (42, 58)],
        disc(32, 36, 14, 18, dark),
        disc(46, 32, 9, 5, dark),
        disc(36, 20, 12, 8, wool),
        disc(27, 34, 2.5, 2.5, WHITE, False),
    ]
    return parts[4:] + parts[:4] if rng.random() < 0.5 else parts


def bird(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A perching bird: beak, wing, tail feathers, thin legs."""
    lift = rng.uniform(-6, 6)
    return [
        poly([(92, 50), (150, 62 + lift), (150, 76 + lift), (90, 68)], darker(colour, 0.4)),
        disc(68, 54, 40, 24, colour),
        disc(34, 28, 20, 19, colour),
        poly([(18, 24), (18, 36), (-6, 32)], (240, 160, 30)),
        disc(52, 62, 22, 13, lighter(colour, 0.55), False),
        poly([(58, 42), (104, 48), (116, 62), (76, 68)], darker(colour, 0.25), False),
        disc(28, 24, 4, 4, WHITE, False),
        disc(28, 24, 2, 2, BLACK, False),
        bar(62, 74, 60, 98, 5, (214, 130, 30)),
        bar(78, 74, 78, 98, 5, (214, 130, 30)),
        bar(52, 98, 66, 98, 5, (214, 130, 30)),
        bar(70, 98, 86, 98, 5, (214, 130, 30)),
    ]
