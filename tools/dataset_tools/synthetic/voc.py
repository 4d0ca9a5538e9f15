"""Images of the twenty VOC classes, in the layout of a VOCdevkit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from .canvas import Canvas, pick
from .drawings import DRAWINGS, draw_object
from .output import progress, save_image, save_text
from .street import StreetScene

CLASSES = tuple(DRAWINGS)
YEARS = (2007, 2012)
SPLITS = ('train', 'val', 'test')
SIZES = ((500, 375), (500, 333), (375, 500), (500, 400))


class VocObject(NamedTuple):
    """One annotated object; the corners of the box are inclusive and count from 1."""

    name: str
    truncated: bool
    difficult: bool
    box: tuple[int, int, int, int]


def generate(root: Path, counts: dict[str, int], size: tuple[int, int] | None, seed: int) -> None:
    """Write VOC2007 and VOC2012 into ``root``."""
    jobs = [(y, s, n) for y in YEARS for s in SPLITS for n in range(counts[s])]
    found: dict[int, dict[str, list]] = {year: {split: [] for split in SPLITS} for year in YEARS}
    for year, split, number in progress(jobs, 'voc'):
        canvas, objects = draw_image(year, split, number, size, seed)
        running = sum(len(entries) for entries in found[year].values()) + 1
        # As in the real data sets, names have a year in front in 2012 only.
        stem = f'{running:06d}' if year == 2007 else f'{2008 + running % 5}_{running:06d}'
        folder = root / f'VOC{year}'
        save_image(folder / 'JPEGImages' / f'{stem}.jpg', canvas.image)
        text = annotation(year, stem, canvas, objects)
        save_text(folder / 'Annotations' / f'{stem}.xml', [text])
        found[year][split].append((stem, objects))
    for year, sets in found.items():
        folder = root / f'VOC{year}' / 'ImageSets' / 'Main'
        for split, entries in {**sets, 'trainval': sets['train'] + sets['val']}.items():
            save_text(folder / f'{split}.txt', (stem for stem, _ in entries))
            for name in CLASSES:
                lines = (f'{stem} {presence(objects, name):2d}' for stem, objects in entries)
                save_text(folder / f'{name}_{split}.txt', lines)


def draw_image(
    year: int, split: str, number: int, size: tuple[int, int] | None, seed: int
) -> tuple[Canvas, list[VocObject]]:
    """Draw one image; equal arguments give equal images."""
    rng = np.random.default_rng([seed, 2, year, SPLITS.index(split), number])
    canvas = StreetScene(rng, *(size or pick(rng, SIZES))).paint_background()
    # The last and largest object cycles through the classes, so that small sets have all.
    indices = [*rng.integers(len(CLASSES), size=rng.integers(4)), number % len(CLASSES)]
    first = len(canvas.objects)
    for n, index in enumerate(indices, 1):
        share = rng.uniform(0.5, 0.85) if n == len(indices) else rng.uniform(0.25, 0.6)
        parts = draw_object(rng, index, canvas.width, canvas.height, share)
        canvas.paint(CLASSES[index], parts)
    canvas.expose(rng)
    objects = [describe(canvas, number) for number in range(first, len(canvas.objects))]
    return canvas, [item for item in objects if item is not None]


def describe(canvas: Canvas, number: int) -> VocObject | None:
    """Annotate the visible part of an object; returns None if it is too small."""
    item, mask = canvas.objects[number], canvas.owner == number
    seen = int(mask.sum())
    if seen < max(12, 0.1 * item.area):
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (columns[0] + 1, rows[0] + 1, columns[-1] + 1, rows[-1] + 1)
    hidden = 1 - seen / item.area
    return VocObject(
        name=item.label,
        truncated=item.crosses_edge or hidden > 0.1,
        difficult=seen < 0.004 * mask.size or hidden > 0.6,
        box=tuple(int(value) for value in box),
    )


def annotation(year: int, stem: str, canvas: Canvas, objects: list[VocObject]) -> str:
    """The XML text of one image."""
    tree = ElementTree.Element('annotation')
    _add(tree, folder=f'VOC{year}', filename=f'{stem}.jpg')
    source = dict(database='Synthetic', annotation=f'VOC{year} layout', image='drawn')
    size = dict(width=canvas.width, height=canvas.height, depth=3)
    _add(tree, source=source, size=size, segmented=0)
    for item in objects:
        flags = dict(truncated=int(item.truncated), difficult=int(item.difficult))
        box = dict(zip(('xmin', 'ymin', 'xmax', 'ymax'), item.box, strict=True))
        _add(tree, object=dict(name=item.name, pose='Unspecified', **flags, bndbox=box))
    ElementTree.indent(tree, '\t')
    return ElementTree.tostring(tree, encoding='unicode')


def _add(node: ElementTree.Element, **children: object) -> None:
    for tag, value in children.items():
        child = ElementTree.SubElement(node, tag)
        if isinstance(value, dict):
            _add(child, **value)
        else:
            child.text = str(value)


def presence(objects: list[VocObject], name: str) -> int:
    """1 if an image shows the class, 0 if all its objects are difficult, -1 without any."""
    flags = [item.difficult for item in objects if item.name == name]
    return int(not all(flags)) if flags else -1
