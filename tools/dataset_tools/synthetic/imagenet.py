"""Pictures of one thing each in the layout of ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .backdrop import paint_backdrop
from .canvas import Canvas
from .drawings import VOC_DRAWINGS
from .emblems import FIGURES, PATTERNS, cover, figure
from .output import progress, save_jpeg, save_lines
from .shapes import Colour, Part, bounds, fit, turn, vary

TINTS: tuple[Colour, ...] = (
    (206, 50, 46),
    (50, 90, 190),
    (60, 150, 76),
    (236, 190, 50),
    (140, 74, 170),
    (60, 60, 66),
    (230, 130, 40),
    (70, 180, 190),
)
DRAWINGS = [draw for draw, _ in VOC_DRAWINGS.values()] + [figure(name) for name in FIGURES]
# Drawings take turns first, so that few classes differ by what is drawn, not by its colour.
MAX_CLASSES = min(1000, len(DRAWINGS) * len(TINTS) * len(PATTERNS))
SPLITS = ('train', 'val')


def generate(
    root: Path, counts: dict[str, int], size: tuple[int, int] | None, seed: int, classes: int
) -> None:
    """Write the set into ``root``; the pictures are dealt to the classes in turn."""
    jobs = [(split, number) for split in SPLITS for number in range(counts[split])]
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for index in range(classes):
            (root / split / wnid(index)).mkdir(parents=True)
    for split, number in progress(jobs, 'imagenet'):
        index = number % classes
        canvas = draw_picture(split, number, index, size, seed)
        name = f'{wnid(index)}/{file_name(split, number, index)}'
        save_jpeg(root / split / name, canvas.image)
        lines[split].append(f'{name} {index}')
    for split in SPLITS:
        save_lines(root / 'meta' / f'{split}.txt', lines[split])


def wnid(index: int) -> str:
    """Folder name of a class; sorting the names gives the order of the classes."""
    return f'n{index + 1:08d}'


def file_name(split: str, number: int, index: int) -> str:
    """File name as in ImageNet, where validation pictures are numbered from 1."""
    if split == 'val':
        return f'ILSVRC2012_val_{number + 1:08d}.JPEG'
    return f'{wnid(index)}_{number}.JPEG'


def draw_thing(rng: np.random.Generator, index: int) -> list[Part]:
    """The drawing of a class: its kind, tint and surface pattern."""
    variant, drawing = divmod(index, len(DRAWINGS))
    pattern, tint = divmod(variant, len(TINTS))
    colour = TINTS[(tint + drawing) % len(TINTS)]  # shifted, so that not all first ones are red
    return cover(DRAWINGS[drawing](rng, vary(rng, colour, 12)), pattern, colour)


def draw_picture(
    split: str, number: int, index: int, size: tuple[int, int] | None, seed: int
) -> Canvas:
    """Draw one picture, which depends on nothing but these arguments."""
    rng = np.random.default_rng([seed, 3, SPLITS.index(split), number])
    width, height = size or (int(rng.integers(256, 361)), int(rng.integers(240, 321)))
    canvas = Canvas(rng, width, height)
    paint_backdrop(canvas, rng)
    parts = turn(draw_thing(rng, index), rng.uniform(-12, 12))
    x0, y0, x1, y1 = bounds(parts)
    ratio = (x1 - x0) / (y1 - y0)
    tall = rng.uniform(0.45, 0.9) * min(height, width / ratio)
    left = rng.uniform(-0.05, 1.05) * (width - tall * ratio)
    bottom = tall + rng.uniform(-0.05, 1.05) * (height - tall)
    stood = fit(parts, left, bottom, tall, flip=bool(rng.random() < 0.5))
    canvas.paint(wnid(index), stood, grain=4, blobs=rng.uniform(0, 5))
    canvas.expose(rng)
    return canvas
