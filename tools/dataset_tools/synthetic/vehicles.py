"""Vehicles seen from the side, facing left, about 100 units high."""

from __future__ import annotations

import numpy as np

from .shapes import (
    BLACK,
    GLASS,
    TYRE,
    WHITE,
    Colour,
    Part,
    bar,
    box,
    darker,
    disc,
    lighter,
    poly,
    wheel,
)


def car(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A saloon or hatchback."""
    tail = rng.uniform(225, 255)
    body = [
        (0, 52),
        (8, 42),
        (62, 36),
        (96, 4),
        (178, 2),
        (214, 36),
        (tail, 42),
        (tail, 82),
        (0, 82),
    ]
    return [
        poly(body, colour),
        poly([(74, 36), (100, 11), (134, 10), (134, 36)], GLASS, False),
        poly([(141, 36), (141, 10), (174, 9), (202, 36)], GLASS, False),
        bar(0, 66, tail, 66, 4, darker(colour), False),
        bar(137, 38, 137, 80, 2, darker(colour), False),
        box(2, 48, 14, 58, (250, 236, 170), False),
        box(tail - 9, 46, tail, 58, (205, 30, 30), False),
        *wheel(50, 80, 21),
        *wheel(194, 80, 21),
    ]


def bus(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A city bus with a row of windows."""
    length = rng.uniform(225, 265)
    parts = [poly([(0, 12), (8, 0), (length, 0), (length, 88), (0, 88)], colour)]
    parts.append(poly([(0, 18), (26, 14), (26, 54), (0, 54)], GLASS, False))
    for left in np.arange(34, length - 30, 36):
        parts.append(box(left, 14, left + 29, 46, GLASS, False))
    parts += [
        box(0, 60, length, 68, lighter(colour, 0.6), False),
        box(70, 14, 92, 84, darker(GLASS, 0.2), False),
        box(0, 70, 8, 80, (250, 236, 170), False),
    ]
    return parts + wheel(48, 86, 16) + wheel(length - 52, 86, 16)


def truck(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A lorry: a low cab and a tall cargo box."""
    length = rng.uniform(190, 230)
    cargo = lighter((200, 200, 204), rng.uniform(0, 0.6))
    parts = [
        box(62, 0, length, 76, cargo),
        poly([(0, 46), (12, 20), (56, 20), (56, 84), (0, 84)], colour),
        box(50, 74, length, 86, BLACK),
        poly([(7, 46), (16, 26), (38, 26), (38, 46)], GLASS, False),
        box(0, 64, 9, 72, (250, 236, 170), False),
    ]
    parts += [bar(x, 2, x, 74, 2, darker(cargo, 0.2), False) for x in np.arange(84, length, 24)]
    return parts + wheel(28, 84, 16) + wheel(length - 56, 84, 16) + wheel(length - 22, 84, 16)


def train(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A railcar: slanted nose, coloured stripe, current collector."""
    length = rng.uniform(270, 330)
    body = lighter(colour, 0.75)
    parts = [
        poly([(0, 62), (26, 16), (length, 16), (length, 88), (4, 88)], body),
        poly([(0, 62), (length, 62), (length, 80), (2, 80)], colour, False),
        poly([(12, 52), (30, 22), (44, 22), (44, 52)], GLASS, False),
        bar(120, 16, 145, 2, 4, BLACK),
        bar(145, 2, 170, 16, 4, BLACK),
        bar(120, 2, 170, 2, 4, BLACK),
    ]
    for left in np.arange(58, length - 26, 32):
        parts.append(box(left, 26, left + 24, 50, GLASS, False))
    for centre in (46, 74, length - 74, length - 46):
        parts.append(disc(centre, 90, 10, 10, TYRE))
    return parts


def bicycle(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A bicycle: two large spoked wheels and a diamond frame."""
    tread = rng.uniform(5, 7)
    parts = []
    for centre in (36, 134):
        parts += [disc(centre, 64, 36, 36, TYRE), disc(centre, 64, 30, 30, (206, 208, 210), False)]
        for angle in np.arange(4) * np.pi / 4:
            dx, dy = 30 * np.cos(angle), 30 * np.sin(angle)
            spoke = bar(centre - dx, 64 - dy, centre + dx, 64 + dy, 2, (120, 122, 126), False)
            parts.append(spoke)
    joints = [(36, 64), (54, 18), (78, 66), (102, 18), (134, 64)]
    pairs = [(0, 1), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]
    parts += [bar(*joints[a], *joints[b], tread + 1, colour) for a, b in pairs]
    parts += [
        bar(54, 18, 50, 2, tread, colour),
        bar(38, 2, 58, 2, 6, BLACK),
        bar(102, 18, 104, 8, tread, colour),
        bar(92, 8, 118, 8, 8, BLACK),
        disc(78, 66, 8, 8, BLACK, False),
    ]
    return parts


def motorbike(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A motorcycle: fat wheels, engine, tank, seat and exhaust."""
    seat = rng.uniform(126, 140)
    return [
        poly([(34, 70), (56, 36), (136, 44), (142, 72), (70, 88)], (74, 76, 82)),
        bar(28, 72, 58, 14, 9, (150, 152, 158)),
        bar(46, 8, 70, 14, 7, BLACK),
        disc(46, 28, 10, 10, (250, 240, 190)),
        poly([(58, 24), (96, 24), (108, 46), (64, 48)], colour),
        poly([(96, 36), (seat, 36), (158, 26), (156, 48), (104, 50)], BLACK),
        poly([(132, 46), (164, 40), (160, 56), (136, 60)], colour),
        bar(86, 86, 164, 78, 9, (196, 198, 204)),
        disc(88, 70, 15, 14, (140, 142, 148), False),
        *_fat_wheel(30),
        *_fat_wheel(146),
    ]


def _fat_wheel(centre: float) -> list[Part]:
    return [
        disc(centre, 72, 28, 28, TYRE),
        disc(centre, 72, 13, 13, (130, 132, 138), False),
        disc(centre, 72, 5, 5, TYRE, False),
    ]


def boat(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A sailing boat."""
    sail = lighter(colour, 0.75)
    top = rng.uniform(-60, -40)
    return [
        poly([(0, 74), (160, 74), (136, 100), (24, 100)], colour),
        box(74, top, 80, 76, (110, 78, 48)),
        poly([(84, top + 6), (84, 66), (146, 66)], sail),
        poly([(70, top + 20), (70, 66), (18, 66)], WHITE),
        bar(18, 67, 146, 67, 3, (110, 78, 48)),
        bar(4, 80, 156, 80, 5, lighter(colour, 0.5), False),
    ]


def aeroplane(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """An airliner: fuselage, fin, wing and engine."""
    body = lighter(colour, 0.7)
    parts = [
        disc(120, 52, 120, 17, body, corners=32),
        poly([(196, 46), (232, 0), (252, 0), (236, 54)], colour),
        poly([(198, 56), (250, 64), (258, 72), (220, 66)], darker(body, 0.15)),
        poly([(92, 56), (140, 56), (196, 100), (172, 100)], darker(body, 0.25)),
        disc(118, 78, 17, 8, darker(colour, 0.2)),
        poly([(6, 50), (22, 42), (30, 48), (14, 52)], GLASS, False),
        bar(4, 58, 236, 58, 5, colour, False),
    ]
    return parts + [disc(x, 47, 4, 4, GLASS, False, 8) for x in np.arange(48, 190, 13)]
