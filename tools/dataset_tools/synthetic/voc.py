"""Pictures of the twenty VOC classes in the layout of a VOCdevkit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from .backdrop import paint_backdrop
from .canvas import Canvas
from .drawings import VOC_DRAWINGS, draw_voc
from .output import progress, save_jpeg, save_lines
from .shapes import Part, bounds, fit, pick, turn

CLASSES = tuple(VOC_DRAWINGS)
YEARS = (2007, 2012)
SPLITS = ('train', 'val', 'test')
SIZES = ((500, 375), (500, 333), (375, 500), (500, 400))
FLYING = ('aeroplane', 'bird')
SCENERY = {
    'sky': ('aeroplane',),
    'water': ('boat',),
    'field': ('bird', 'cow', 'dog', 'horse', 'sheep'),
    'street': ('bicycle', 'bus', 'car', 'motorbike', 'person', 'train'),
    'room': ('bottle', 'cat', 'chair', 'diningtable', 'pottedplant', 'sofa', 'tvmonitor'),
}
PLACES = {name: place for place, names in SCENERY.items() for name in names}


class VocObject(NamedTuple):
    """One annotated object; the box has inclusive corners counted from 1."""

    name: str
    pose: str
    truncated: bool
    difficult: bool
    box: tuple[int, int, int, int]


def generate(root: Path, counts: dict[str, int], size: tuple[int, int] | None, seed: int) -> None:
    """Write both years into ``root``, the VOCdevkit; test is as large as val."""
    counts = {**counts, 'test': counts['val']}
    jobs = [(y, s, n) for y in YEARS for s in SPLITS for n in range(counts[s])]
    found: dict[int, dict[str, list]] = {year: {split: [] for split in SPLITS} for year in YEARS}
    for year in YEARS:
        for folder in ('JPEGImages', 'Annotations'):
            (root / f'VOC{year}' / folder).mkdir(parents=True)
    for year, split, number in progress(jobs, 'voc'):
        canvas, objects = draw_picture(year, split, number, size, seed)
        running = sum(counts[s] for s in SPLITS[: SPLITS.index(split)]) + number + 1
        stem = image_name(year, running)
        folder = root / f'VOC{year}'
        save_jpeg(folder / 'JPEGImages' / f'{stem}.jpg', canvas.image)
        text = annotation(year, stem, canvas, objects)
        (folder / 'Annotations' / f'{stem}.xml').write_text(text, encoding='utf-8')
        found[year][split].append((stem, objects))
    for year in YEARS:
        _write_lists(root / f'VOC{year}' / 'ImageSets' / 'Main', found[year])


def image_name(year: int, running: int) -> str:
    """File name without ending: plain numbers in 2007, with a year in front in 2012."""
    return f'{running:06d}' if year == 2007 else f'{2008 + running % 5}_{running:06d}'


def draw_picture(
    year: int, split: str, number: int, size: tuple[int, int] | None, seed: int
) -> tuple[Canvas, list[VocObject]]:
    """Draw one picture, which depends on nothing but these arguments."""
    rng = np.random.default_rng([seed, 2, year, SPLITS.index(split), number])
    canvas = Canvas(rng, *(size or pick(rng, SIZES)))
    # Taking turns, every class is the main one somewhere even in a small set.
    main = CLASSES[number % len(CLASSES)]
    names = [pick(rng, CLASSES) for _ in range(int(rng.integers(0, 4)))] + [main]
    paint_backdrop(canvas, rng, PLACES[main] if rng.random() < 0.75 else None)
    painted = []
    for n, name in enumerate(names):
        share = rng.uniform(0.35, 0.7) if n == len(names) - 1 else rng.uniform(0.18, 0.5)
        flip = bool(rng.random() < 0.5)
        parts = turn(draw_voc(rng, name), rng.uniform(-5, 5))
        parts = _place(canvas, rng, parts, share, flip, name in FLYING)
        item = canvas.paint(name, parts, grain=4, blobs=rng.uniform(0, 4))
        if item is not None:
            painted.append((len(canvas.objects) - 1, flip))
    canvas.expose(rng)
    objects = [describe(canvas, number, flip) for number, flip in painted]
    return canvas, [item for item in objects if item is not None]


def _place(
    canvas: Canvas,
    rng: np.random.Generator,
    parts: list[Part],
    share: float,
    flip: bool,
    flying: bool,
) -> list[Part]:
    """Bring a drawing to a share of the picture's area, mostly clear of what is there."""
    x0, y0, x1, y1 = bounds(parts)
    ratio = (x1 - x0) / (y1 - y0)
    height = min(share * np.sqrt(canvas.width * canvas.height / ratio), canvas.height * 0.92)
    width = height * ratio
    # Most things stand on the ground, which takes the lower part of nearly all backgrounds.
    highest = max(height * 0.9, 0 if flying else canvas.height * 0.68)
    best, least = None, np.inf
    for _ in range(6):
        left = rng.uniform(-0.15 * width, max(canvas.width - 0.85 * width, 0))
        bottom = rng.uniform(highest, max(highest, canvas.height) + 0.1 * height)
        placed = fit(parts, left, bottom, height, flip=flip)
        covered = _covered(canvas, bounds(placed))
        if covered < least:
            best, least = placed, covered
    return best


def _covered(canvas: Canvas, frame: tuple[float, float, float, float]) -> float:
    """Largest share of an object painted before that lies in the frame."""
    x0, y0, x1, y1 = (max(0, int(value)) for value in frame)
    window = canvas.owner[y0:y1, x0:x1]
    shares = [
        np.count_nonzero(window == n) / item.area
        for n, item in enumerate(canvas.objects)
        if item.label in VOC_DRAWINGS
    ]
    return max(shares, default=0.0)


def describe(canvas: Canvas, number: int, flip: bool) -> VocObject | None:
    """The annotation of what can be seen of an object; None where hardly anything can."""
    item, mask = canvas.objects[number], canvas.visible(number)
    seen = int(mask.sum())
    if seen < max(12, 0.1 * item.area):
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (columns[0] + 1, rows[0] + 1, columns[-1] + 1, rows[-1] + 1)
    hidden = 1 - seen / item.area
    tiny = seen < 0.004 * mask.size
    return VocObject(
        name=item.label,
        pose='Right' if flip else 'Left',
        truncated=item.cut or hidden > 0.1,
        difficult=tiny or hidden > 0.6,
        box=tuple(int(value) for value in box),
    )


def annotation(year: int, stem: str, canvas: Canvas, objects: list[VocObject]) -> str:
    """The XML text of one picture."""
    tree = ElementTree.Element('annotation')
    _add(tree, folder=f'VOC{year}', filename=f'{stem}.jpg')
    source = ElementTree.SubElement(tree, 'source')
    _add(source, database='Synthetic', annotation=f'VOC{year} layout', image='drawn')
    size = ElementTree.SubElement(tree, 'size')
    _add(size, width=canvas.width, height=canvas.height, depth=3)
    _add(tree, segmented=0)
    for item in objects:
        node = ElementTree.SubElement(tree, 'object')
        _add(node, name=item.name, pose=item.pose)
        _add(node, truncated=int(item.truncated), difficult=int(item.difficult))
        corners = dict(zip(('xmin', 'ymin', 'xmax', 'ymax'), item.box, strict=True))
        _add(ElementTree.SubElement(node, 'bndbox'), **corners)
    ElementTree.indent(tree, '\t')
    return ElementTree.tostring(tree, encoding='unicode') + '\n'


def _add(node: ElementTree.Element, **texts: object) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(node, tag).text = str(text)


def _write_lists(folder: Path, found: dict[str, list]) -> None:
    sets = {**found, 'trainval': found['train'] + found['val']}
    for split, entries in sets.items():
        save_lines(folder / f'{split}.txt', (stem for stem, _ in entries))
        for name in CLASSES:
            lines = (f'{stem} {presence(objects, name):2d}' for stem, objects in entries)
            save_lines(folder / f'{name}_{split}.txt', lines)


def presence(objects: list[VocObject], name: str) -> int:
    """1 where the class is in the picture, 0 where only difficult ones are, -1 elsewhere."""
    flags = [item.difficult for item in objects if item.name == name]
    if not flags:
        return -1
    return 0 if all(flags) else 1
