"""Things found in a home, about 100 units high."""

from __future__ import annotations

import numpy as np

from .shapes import BLACK, WHITE, Colour, Part, bar, box, darker, disc, lighter, poly, vary


def bottle(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A bottle with cap and label."""
    neck = rng.uniform(5, 7)
    outline = [
        (17 - neck, 8),
        (17 + neck, 8),
        (17 + neck, 28),
        (34, 42),
        (34, 98),
        (0, 98),
        (0, 42),
    ]
    return [
        poly([*outline, (17 - neck, 28)], colour),
        box(16 - neck, 0, 18 + neck, 9, darker(colour, 0.5)),
        box(0, 56, 34, 82, WHITE, False),
        bar(4, 66, 30, 66, 4, darker(colour, 0.2), False),
        bar(6, 44, 6, 96, 3, lighter(colour, 0.6), False),
    ]


def chair(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A kitchen chair: slatted back, seat, four legs."""
    seat = rng.uniform(54, 60)
    frame = darker(colour, 0.15)
    # The gaps in the back are filled by the outline, hence a dark panel behind the slats.
    return [
        box(2, 4, 44, seat, darker(colour, 0.55)),
        *[box(x, 0, x + 6, seat, colour) for x in (0, 14, 27, 41)],
        box(0, 0, 47, 9, colour),
        poly([(0, seat), (48, seat), (62, seat + 10), (8, seat + 10)], lighter(colour, 0.25)),
        box(0, seat, 6, 92, frame),
        box(42, seat, 48, 92, frame),
        box(8, seat + 10, 14, 100, colour),
        box(56, seat + 8, 62, 100, colour),
    ]


def diningtable(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A laid table seen from slightly above."""
    parts = [
        box(16, 40, 26, 92, darker(colour, 0.4)),
        box(164, 40, 174, 92, darker(colour, 0.4)),
        poly([(26, 20), (164, 20), (190, 46), (0, 46)], colour),
        box(0, 46, 190, 56, darker(colour, 0.25)),
        box(4, 56, 15, 100, darker(colour, 0.15)),
        box(175, 56, 186, 100, darker(colour, 0.15)),
    ]
    for x in (50, 95, 140):
        parts += [disc(x, 33, 16, 6, WHITE, False), disc(x, 33, 9, 3.4, (206, 210, 220), False)]
    if rng.random() < 0.6:
        parts += [box(90, 4, 100, 26, (170, 70, 70)), disc(95, 2, 10, 7, (226, 120, 160))]
    return parts


def pottedplant(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A plant with pointed leaves in a pot of the given colour."""
    leaf = vary(rng, (54, 128, 50), 16)
    parts = []
    for angle in np.radians(np.linspace(-75, 75, 9) + rng.uniform(-5, 5, 9)):
        along = np.array([np.sin(angle), -np.cos(angle)])
        across = np.array([along[1], -along[0]]) * 7
        reach = rng.uniform(48, 64)
        root, middle = np.array([40.0, 66.0]), np.array([40.0, 66.0]) + along * reach * 0.55
        points = [root, middle + across, root + along * reach, middle - across]
        parts.append(poly(points, vary(rng, leaf, 12)))
    parts += [
        poly([(18, 66), (62, 66), (55, 100), (25, 100)], colour),
        box(14, 60, 66, 70, lighter(colour, 0.15)),
    ]
    return parts


def sofa(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A two-seat sofa with arms and cushions."""
    cushion = vary(rng, lighter(colour, 0.35), 10)
    return [
        box(14, 8, 196, 70, darker(colour, 0.1)),
        disc(24, 12, 12, 10, darker(colour, 0.1)),
        disc(186, 12, 12, 10, darker(colour, 0.1)),
        box(22, 16, 103, 52, colour, False),
        box(107, 16, 188, 52, colour, False),
        box(20, 50, 190, 72, lighter(colour, 0.18)),
        bar(105, 50, 105, 72, 2, darker(colour, 0.4), False),
        box(10, 70, 200, 90, colour),
        box(0, 36, 24, 92, darker(colour, 0.2)),
        box(186, 36, 210, 92, darker(colour, 0.2)),
        disc(12, 36, 13, 9, darker(colour, 0.2)),
        disc(198, 36, 13, 9, darker(colour, 0.2)),
        poly([(36, 30), (64, 24), (70, 50), (40, 54)], cushion, False),
        box(6, 90, 18, 100, BLACK),
        box(192, 90, 204, 100, BLACK),
    ]


def tvmonitor(rng: np.random.Generator, colour: Colour) -> list[Part]:
    """A flat screen on a stand; the colour is what it shows."""
    hill = rng.uniform(30, 50)
    return [
        box(0, 0, 136, 80, BLACK),
        box(7, 7, 129, 71, lighter(colour, 0.35), False),
        poly([(7, 71), (7, 60), (50, hill), (90, 62), (129, 44), (129, 71)], colour, False),
        disc(104, 22, 8, 8, (250, 240, 180), False),
        box(60, 78, 76, 94, (52, 52, 56)),
        poly([(40, 100), (46, 92), (90, 92), (96, 100)], (52, 52, 56)),
    ]
