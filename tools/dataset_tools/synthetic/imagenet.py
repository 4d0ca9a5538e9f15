"""Images with one object each, in the layout of ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .canvas import Canvas
from .drawings import KINDS, draw_object
from .output import progress, save_image, save_text
from .street import StreetScene

MAX_CLASSES = KINDS
SPLITS = ('train', 'val')


def generate(
    root: Path, counts: dict[str, int], size: tuple[int, int] | None, seed: int, classes: int
) -> None:
    """Write the data set into ``root``; the images cycle through the classes."""
    jobs = [(split, number) for split in SPLITS for number in range(counts[split])]
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, number in progress(jobs, 'imagenet'):
        index = number % classes
        wnid = f'n{index + 1:08d}'  # sorted names are in the order of the classes
        name = f'ILSVRC2012_val_{number + 1:08d}' if split == 'val' else f'{wnid}_{number}'
        path = root / split / wnid / f'{name}.JPEG'
        save_image(path, draw_image(split, number, index, size, seed).image)
        lines[split].append(f'{wnid}/{path.name} {index}')
    for split in SPLITS:
        save_text(root / 'meta' / f'{split}.txt', lines[split])


def draw_image(
    split: str, number: int, index: int, size: tuple[int, int] | None, seed: int
) -> Canvas:
    """Draw one image; equal arguments give equal images."""
    rng = np.random.default_rng([seed, 3, SPLITS.index(split), number])
    width, height = size or (int(rng.integers(256, 361)), int(rng.integers(240, 321)))
    canvas = StreetScene(rng, width, height).paint_background()
    parts = draw_object(rng, index, width, height, rng.uniform(0.45, 0.9))
    canvas.paint(f'class {index}', parts, blobs=rng.uniform(0, 5))
    canvas.expose(rng)
    return canvas
