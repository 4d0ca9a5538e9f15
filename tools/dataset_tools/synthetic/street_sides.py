"""What lines the street: houses, walls, fences, hedges and trees."""

from __future__ import annotations

import numpy as np

from .camera import Block, Camera
from .shapes import (
    GLASS,
    WHITE,
    Colour,
    Part,
    bar,
    box,
    darker,
    disc,
    lighter,
    mix,
    pick,
    vary,
)

PLASTERS: tuple[Colour, ...] = (
    (214, 192, 152),
    (190, 182, 172),
    (202, 164, 122),
    (168, 172, 180),
    (222, 210, 190),
    (150, 134, 120),
)
LEAVES: tuple[Colour, ...] = ((48, 92, 40), (62, 104, 46), (40, 80, 48), (84, 108, 40))
DEPTH = 9.0


def _block(camera: Camera, x: float, z0: float, z1: float, height: float, depth: float) -> Block:
    side = 1 if x > 0 else -1
    x0, x1 = sorted((x, x + side * depth))
    return Block(camera, x0, x1, 0, height, z0, z1)


def building(rng: np.random.Generator, camera: Camera, x: float, z0: float, z1: float):
    """A house whose front stands along the street at x, from z0 to z1."""
    plaster = vary(rng, pick(rng, PLASTERS), 12)
    floors = int(rng.integers(3, 6))
    block = _block(camera, x, z0, z1, floors * 3.1 + 0.8, DEPTH)
    trim = lighter(plaster, 0.35) if rng.random() < 0.6 else darker(plaster, 0.3)
    parts = block.shell(plaster)
    columns = max(2, round((z1 - z0) / rng.uniform(2.4, 3.4)))
    parts += _windows(block.side, floors, columns, trim, rng)
    parts += _windows(block.front, floors, 3, trim, rng)
    parts.append(block.side(0, 0.95, 1, 1, darker(plaster, 0.4)))
    parts.append(block.side(0, 0, 1, 0.04, darker(plaster, 0.35)))
    return parts


def _windows(face, floors: int, columns: int, trim: Colour, rng: np.random.Generator) -> list[Part]:
    parts = []
    glass = vary(rng, GLASS, 14)
    door = int(rng.integers(columns))
    for row in range(floors):
        v0, v1 = (row + 0.32) / (floors + 0.25), (row + 0.86) / (floors + 0.25)
        for column in range(columns):
            u0, u1 = (column + 0.24) / columns, (column + 0.76) / columns
            if row == 0 and column == door:
                parts.append(face(u0, 0, u1, v1, (96, 62, 44)))
                continue
            frame = 0.1 / columns
            parts.append(face(u0 - frame, v0 - 0.015, u1 + frame, v1 + 0.015, trim))
            pane = mix(glass, (226, 206, 150), 0.6) if rng.random() < 0.1 else glass
            parts.append(face(u0, v0, u1, v1, pane))
    return parts


def wall(rng: np.random.Generator, camera: Camera, x: float, z0: float, z1: float) -> list[Part]:
    """A brick wall with a coping."""
    brick = vary(rng, (152, 74, 58), 10)
    mortar = lighter(brick, 0.3)
    block = _block(camera, x, z0, z1, rng.uniform(2.6, 3.4), 0.5)
    parts = block.shell(brick)
    rows, columns = 8, round((z1 - z0) / 1.1)
    for row in range(1, rows):
        v = row / rows
        parts.append(block.side(0, v - 0.01, 1, v + 0.01, mortar))
    for row in range(rows):
        for column in range(columns):
            u = (column + 0.5 * (row % 2)) / columns
            parts.append(block.side(u, row / rows, u + 0.06 / columns, (row + 1) / rows, mortar))
    parts.append(block.side(0, 0.93, 1, 1, (188, 182, 176)))
    return parts


def fence(rng: np.random.Generator, camera: Camera, x: float, z0: float, z1: float) -> list[Part]:
    """A picket fence: light boards with dark gaps, two rails and posts."""
    boards = vary(rng, pick(rng, ((226, 224, 214), (208, 218, 226))), 8)
    block = _block(camera, x, z0, z1, rng.uniform(2.2, 2.9), 0.15)
    parts = block.shell((64, 74, 70))
    count = round((z1 - z0) / 0.62)
    for n in range(count):
        parts.append(block.side((n + 0.2) / count, 0.04, (n + 0.72) / count, 1, boards))
    for v in (0.22, 0.74):
        parts.append(block.side(0, v, 1, v + 0.09, darker(boards, 0.2)))
    return parts


def hedge(rng: np.random.Generator, camera: Camera, x: float, z0: float, z1: float) -> list[Part]:
    """A row of bushes."""
    leaf = vary(rng, pick(rng, LEAVES), 10)
    height = rng.uniform(1.8, 3.2)
    block = _block(camera, x, z0, z1, height, 1.5)
    parts = block.shell(leaf)
    # A bush every metre along the top edge rounds off the straight box.
    for z in np.arange(z0, z1, 0.8)[::-1]:
        cx, cy = camera(x, height * rng.uniform(0.85, 1.0), z)
        size = camera.scale(z) * rng.uniform(0.6, 1.0)
        parts.append(disc(cx, cy, size, size * 0.8, vary(rng, leaf, 12), corners=12))
        dx, dy = camera(x, height * rng.uniform(0.2, 0.7), z)
        parts.append(disc(dx, dy, size * 0.6, size * 0.5, vary(rng, leaf, 18), False, 10))
    return parts


def tree(rng: np.random.Generator, camera: Camera, x: float, z: float) -> list[Part]:
    """A broad-leaved tree: trunk and a crown of blobs."""
    leaf = vary(rng, pick(rng, LEAVES), 10)
    bark = vary(rng, (84, 64, 48), 10)
    scale = camera.scale(z)
    foot_x, foot_y = camera(x, 0, z)
    rise, radius = rng.uniform(3.6, 5.2) * scale, rng.uniform(1.5, 2.3) * scale
    top_y = foot_y - rise
    parts = [bar(foot_x, foot_y, foot_x, top_y, 0.45 * scale, bark)]
    for angle in np.arange(7) * 0.9 + rng.uniform(0, 1):
        cx = foot_x + np.cos(angle) * radius * 0.6
        cy = top_y + np.sin(angle) * radius * 0.55
        size = radius * rng.uniform(0.55, 0.75)
        parts.append(disc(cx, cy, size, size, vary(rng, leaf, 10)))
    for _ in range(16):
        angle, reach = rng.uniform(0, 6.28), radius * rng.uniform(0, 0.95)
        cx, cy = foot_x + np.cos(angle) * reach, top_y + np.sin(angle) * reach
        shade = lighter(leaf, 0.18) if np.sin(angle) < 0 else darker(leaf, 0.22)
        parts.append(disc(cx, cy, radius * 0.17, radius * 0.14, vary(rng, shade, 8), False, 10))
    return parts


def skyline(rng: np.random.Generator, camera: Camera, x0: float, x1: float) -> list[Part]:
    """A distant house front between two columns of the picture."""
    plaster = vary(rng, mix(pick(rng, PLASTERS), (200, 210, 220), 0.3), 10)
    scale = camera.scale(110)
    top = camera.horizon - rng.uniform(5, 12) * scale
    bottom = camera.horizon + 2.4 * scale
    parts = [box(x0, top, x1, bottom, plaster)]
    step = max(3.0, 2.6 * scale)
    for left in np.arange(x0 + step * 0.4, x1 - step * 0.5, step):
        for row in np.arange(top + step * 0.4, bottom - step * 0.6, step):
            parts.append(box(left, row, left + step * 0.5, row + step * 0.5, GLASS, False))
    return parts


def bushes(rng: np.random.Generator, camera: Camera, x0: float, x1: float) -> list[Part]:
    """Distant greenery between two columns of the picture."""
    leaf = vary(rng, mix(pick(rng, LEAVES), (150, 170, 180), 0.25), 8)
    scale = camera.scale(110)
    bottom = camera.horizon + 2.4 * scale
    parts = [box(x0, camera.horizon - 2 * scale, x1, bottom, leaf)]
    for x in np.arange(x0, x1, max(2.0, 2 * scale)):
        size = rng.uniform(2, 4) * scale
        parts.append(
            disc(x, camera.horizon - 2 * scale, size, size, vary(rng, leaf, 12), corners=12)
        )
    return parts


def bin_or_box(rng: np.random.Generator, camera: Camera, x: float, z: float) -> list[Part]:
    """A rubbish bin or a switch box: static things that no class covers."""
    colour = vary(rng, pick(rng, ((92, 94, 90), (150, 146, 140), (70, 84, 96))), 8)
    block = Block(camera, x - 0.5, x + 0.5, 0, rng.uniform(1.1, 1.7), z, z + 0.8)
    parts = [*block.shell(colour), block.front(0, 0.85, 1, 1, darker(colour, 0.35))]
    return [*parts, block.front(0.2, 0.35, 0.8, 0.6, mix(colour, WHITE, 0.5))]
