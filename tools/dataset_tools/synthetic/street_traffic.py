"""Vehicles that drive along the street, seen from behind or from the front."""

from __future__ import annotations

import numpy as np

from .camera import Block, Camera
from .shapes import BLACK, GLASS, TYRE, WHITE, Colour, Part, darker, lighter, poly

LAMP: Colour = (255, 240, 190)
TAIL: Colour = (206, 26, 30)


def _tyres(block: Block, near: float, far: float, radius: float) -> list[Part]:
    """Wheels on the flank at two distances (share of the length), and under the near face."""
    camera, parts = block.camera, []
    angle = np.arange(16) * (np.pi / 8)
    if block.flank is not None:
        for share in (far, near):
            z = block.z0 + (block.z1 - block.z0) * share
            for size, colour in ((1.0, TYRE), (0.5, (168, 170, 174))):
                ring = [
                    camera(
                        block.flank,
                        radius + radius * size * np.sin(a),
                        z + radius * size * np.cos(a),
                    )
                    for a in angle
                ]
                parts.append(poly(ring, colour, size == 1.0))
    for x0, x1 in ((block.x0, block.x0 + 0.26), (block.x1 - 0.26, block.x1)):
        corners = [(x0, 0), (x1, 0), (x1, radius), (x0, radius)]
        parts.insert(0, poly([camera(x, y, block.z0 + 0.2) for x, y in corners], TYRE))
    return parts


def car(
    rng: np.random.Generator, camera: Camera, x: float, z: float, colour: Colour, oncoming: bool
) -> list[Part]:
    """A car with its middle at x and its near end at z."""
    length, half = rng.uniform(3.8, 4.5), 0.93
    body = Block(camera, x - half, x + half, 0.25, 0.95, z, z + length)
    start, end = (1.1, 3.4) if oncoming else (0.35, 2.9)
    cabin = Block(camera, x - 0.74, x + 0.74, 0.9, 1.55, z + start, z + end)
    parts = [*_tyres(body, 0.2, 0.8, 0.34)[:2], *body.shell(colour)]
    parts += [*cabin.shell(colour), cabin.front(0.07, 0.1, 0.93, 0.86, GLASS)]
    if cabin.flank is not None:
        parts.append(cabin.side(0.06, 0.12, 0.48, 0.86, GLASS))
        parts.append(cabin.side(0.54, 0.12, 0.95, 0.86, GLASS))
    parts += _tyres(body, 0.2, 0.8, 0.34)[2:]
    return parts + _car_face(body, oncoming, colour)


def _car_face(body: Block, oncoming: bool, colour: Colour) -> list[Part]:
    lamp = LAMP if oncoming else TAIL
    return [
        body.front(0.02, 0.55, 0.22, 0.85, lamp),
        body.front(0.78, 0.55, 0.98, 0.85, lamp),
        body.front(0, 0, 1, 0.22, darker(colour, 0.6)),
        body.front(0.3, 0.52, 0.7, 0.8, BLACK) if oncoming else body.front(0, 0.45, 1, 0.5, BLACK),
        body.front(0.36, 0.26, 0.64, 0.42, WHITE),
    ]


def bus(
    rng: np.random.Generator, camera: Camera, x: float, z: float, colour: Colour, oncoming: bool
) -> list[Part]:
    """A city bus: rows of windows, a light stripe."""
    body = Block(camera, x - 1.3, x + 1.3, 0.35, 3.2, z, z + rng.uniform(9, 12))
    parts = [*_tyres(body, 0.2, 0.75, 0.5)[:2], *body.shell(colour)]
    parts += _window_row(body, 6, 0.5, 0.85)
    if body.flank is not None:
        parts.append(body.side(0, 0.3, 1, 0.38, lighter(colour, 0.7)))
        parts += _tyres(body, 0.2, 0.75, 0.5)[2:]
    parts.append(body.front(0.08, 0.42 if oncoming else 0.55, 0.92, 0.84, GLASS))
    parts.append(body.front(0.25, 0.87, 0.75, 0.96, BLACK))
    parts.append(body.front(0.32, 0.89, 0.68, 0.94, (250, 190, 60)))
    return parts + _lamps(body, oncoming)


def truck(
    rng: np.random.Generator, camera: Camera, x: float, z: float, colour: Colour, oncoming: bool
) -> list[Part]:
    """A lorry with a tall cargo box; the cab shows when it comes towards the camera."""
    cargo_colour = lighter((176, 180, 188), rng.uniform(0, 0.5))
    start = 2.0 if oncoming else 0.0
    cargo = Block(camera, x - 1.3, x + 1.3, 0.95, 3.7, z + start, z + rng.uniform(7, 9))
    frame = Block(camera, x - 1.15, x + 1.15, 0.45, 0.95, z + start, cargo.z1)
    parts = [*_tyres(cargo, 0.25, 0.8, 0.55), *frame.shell(BLACK), *cargo.shell(cargo_colour)]
    if cargo.flank is not None:
        parts.append(cargo.side(0.1, 0.35, 0.9, 0.65, colour))
        parts += _tyres(cargo, 0.25, 0.8, 0.55)[2:]
    if oncoming:
        return parts + _cab(camera, x, z, colour)
    parts += [cargo.front(u, 0, u + 0.03, 1, darker(cargo_colour, 0.45)) for u in (0, 0.485, 0.97)]
    parts += [cargo.front(0.56, 0.2, 0.6, 0.8, BLACK), cargo.front(0, 0, 1, 0.12, colour)]
    return parts + _lamps(frame, False)


def _cab(camera: Camera, x: float, z: float, colour: Colour) -> list[Part]:
    cab = Block(camera, x - 1.2, x + 1.2, 0.4, 2.8, z, z + 1.9)
    parts = [*cab.shell(colour), cab.front(0.08, 0.5, 0.92, 0.88, GLASS)]
    if cab.flank is not None:
        parts.append(cab.side(0.2, 0.5, 0.8, 0.86, GLASS))
    parts.append(cab.front(0.2, 0.18, 0.8, 0.42, darker(colour, 0.55)))
    return parts + _tyres(cab, 0.5, 0.5, 0.5)[2:] + _lamps(cab, True)


def tram(
    rng: np.random.Generator, camera: Camera, x: float, z: float, colour: Colour, oncoming: bool
) -> list[Part]:
    """A tram: two-tone body, large windscreen, long row of windows, current collector."""
    white = lighter(colour, 0.8)
    body = Block(camera, x - 1.3, x + 1.3, 0.25, 3.5, z, z + rng.uniform(18, 26))
    arm_x, arm_z = x, z + 5
    foot, knee, head = (camera(arm_x, y, arm_z) for y in (3.4, 4.3, 4.9))
    wide = camera.scale(arm_z)
    parts = [
        poly([foot, (knee[0] - 0.4 * wide, knee[1]), head, (knee[0] + 0.4 * wide, knee[1])], BLACK),
        *body.shell(white),
        *_window_row(body, 9, 0.48, 0.84),
        body.front(0, 0, 1, 0.4, colour),
        body.front(0.06, 0.44, 0.94, 0.84, GLASS),
        body.front(0.2, 0.87, 0.8, 0.96, BLACK),
        body.front(0.3, 0.89, 0.7, 0.94, (250, 190, 60)),
        body.front(0.46, 0.05, 0.54, 0.36, white),
    ]
    if body.flank is not None:
        parts.insert(-6, body.side(0, 0, 1, 0.4, darker(colour, 0.15)))
        parts.insert(-6, body.side(0, 0, 1, 0.06, BLACK))
    return parts + _lamps(body, True)


def _window_row(body: Block, count: int, bottom: float, top: float) -> list[Part]:
    if body.flank is None:
        return []
    edges = [((n + 0.1) / count, (n + 0.9) / count) for n in range(count)]
    return [body.side(u0, bottom, u1, top, GLASS) for u0, u1 in edges]


def _lamps(block: Block, oncoming: bool) -> list[Part]:
    lamp = LAMP if oncoming else TAIL
    return [block.front(u, 0.1, u + 0.12, 0.2, lamp) for u in (0.05, 0.83)]
