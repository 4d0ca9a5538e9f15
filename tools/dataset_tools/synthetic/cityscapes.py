"""Street scenes in the layout of Cityscapes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from .canvas import Canvas
from .cityscapes_labels import BY_NAME
from .output import progress, save_png
from .street_scene import StreetScene

SIZE = (512, 256)
CITIES = {'train': ('erlenbruck', 'lindenhafen', 'nordwalde'), 'val': ('sonnenfurt',)}
FRAME = 19


def generate(root: Path, counts: dict[str, int], size: tuple[int, int] | None, seed: int) -> None:
    """Write the set into ``root``."""
    jobs = [(split, number) for split, count in counts.items() for number in range(count)]
    for split, number in progress(jobs, 'cityscapes'):
        city = CITIES[split][number % len(CITIES[split])]
        canvas = draw_scene(split, number, size or SIZE, seed)
        _write(root, split, city, f'{city}_{number:06d}_{FRAME:06d}', canvas)


def draw_scene(split: str, number: int, size: tuple[int, int], seed: int) -> Canvas:
    """Draw one scene, which depends on nothing but these arguments."""
    rng = np.random.default_rng([seed, 1, list(CITIES).index(split), number])
    return StreetScene(rng, *size, turn=number).paint()


def _write(root: Path, split: str, city: str, stem: str, canvas: Canvas) -> None:
    pictures = root / 'leftImg8bit' / split / city
    truth = root / 'gtFine' / split / city
    for folder in (pictures, truth):
        folder.mkdir(parents=True, exist_ok=True)
    save_png(pictures / f'{stem}_leftImg8bit.png', canvas.image)
    for kind, values in truth_maps(canvas).items():
        save_png(truth / f'{stem}_gtFine_{kind}.png', values)
    text = json.dumps(polygons(canvas))
    (truth / f'{stem}_gtFine_polygons.json').write_text(text + '\n', encoding='utf-8')


def truth_maps(canvas: Canvas) -> dict[str, np.ndarray]:
    """The four label pictures, by the end of their file names."""
    labels = [BY_NAME[item.label] for item in canvas.objects]
    return {
        'labelIds': canvas.lookup([label.id for label in labels], 0, np.uint8),
        'labelTrainIds': canvas.lookup([label.train_id for label in labels], 255, np.uint8),
        'instanceIds': canvas.lookup(_instances(labels), 0, np.uint16),
        'color': canvas.lookup(
            [(*label.colour, 255) for label in labels], (0, 0, 0, 255), np.uint8
        ),
    }


def _instances(labels: list) -> list[int]:
    """Things are numbered per class in the order of painting, as the official scripts do."""
    seen: Counter = Counter()
    values = []
    for label in labels:
        values.append(label.id * 1000 + seen[label.name] if label.is_thing else label.id)
        seen[label.name] += 1
    return values


def polygons(canvas: Canvas) -> dict:
    """The polygon file: painting its objects in order gives the label pictures."""
    objects = [{'label': item.label, 'polygon': item.polygon.tolist()} for item in canvas.objects]
    return {'imgHeight': canvas.height, 'imgWidth': canvas.width, 'objects': objects}
