"""Street scenes in the layout of Cityscapes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from .canvas import Canvas
from .output import progress, save_image, save_text
from .street import StreetScene

CITIES = {'train': ('erlenbruck', 'lindenhafen', 'nordwalde'), 'val': ('sonnenfurt',)}
IGNORED = 255
LABELS = {  # id, train id and colour of the classes in Cityscapes
    'ego vehicle': (1, IGNORED, (0, 0, 0)),
    'road': (7, 0, (128, 64, 128)),
    'sidewalk': (8, 1, (244, 35, 232)),
    'building': (11, 2, (70, 70, 70)),
    'wall': (12, 3, (102, 102, 156)),
    'fence': (13, 4, (190, 153, 153)),
    'pole': (17, 5, (153, 153, 153)),
    'traffic light': (19, 6, (250, 170, 30)),
    'traffic sign': (20, 7, (220, 220, 0)),
    'vegetation': (21, 8, (107, 142, 35)),
    'terrain': (22, 9, (152, 251, 152)),
    'sky': (23, 10, (70, 130, 180)),
    'person': (24, 11, (220, 20, 60)),
    'rider': (25, 12, (255, 0, 0)),
    'car': (26, 13, (0, 0, 142)),
    'truck': (27, 14, (0, 0, 70)),
    'bus': (28, 15, (0, 60, 100)),
    'train': (31, 16, (0, 80, 100)),
    'motorcycle': (32, 17, (0, 0, 230)),
    'bicycle': (33, 18, (119, 11, 32)),
}
FIRST_THING = 24  # the countable classes, with an id per object, have this id or a higher one


def generate(root: Path, counts: dict[str, int], size: tuple[int, int] | None, seed: int) -> None:
    """Write the data set into ``root``."""
    jobs = [(split, number) for split, count in counts.items() for number in range(count)]
    for split, number in progress(jobs, 'cityscapes'):
        canvas = draw_scene(split, number, size or (512, 256), seed)
        city = CITIES[split][number % len(CITIES[split])]
        stem = f'{city}_{number:06d}_000019'
        images, labels = (root / kind / split / city for kind in ('leftImg8bit', 'gtFine'))
        save_image(images / f'{stem}_leftImg8bit.png', canvas.image)
        for kind, values in label_maps(canvas).items():
            save_image(labels / f'{stem}_gtFine_{kind}.png', values)
        # Painting the polygons in this order gives the label maps.
        objects = [{'label': o.label, 'polygon': o.polygon.tolist()} for o in canvas.objects]
        text = json.dumps(dict(imgHeight=canvas.height, imgWidth=canvas.width, objects=objects))
        save_text(labels / f'{stem}_gtFine_polygons.json', [text])


def draw_scene(split: str, number: int, size: tuple[int, int], seed: int) -> Canvas:
    """Draw one scene; equal arguments give equal scenes."""
    rng = np.random.default_rng([seed, 1, list(CITIES).index(split), number])
    return StreetScene(rng, *size, turn=number).paint()


def label_maps(canvas: Canvas) -> dict[str, np.ndarray]:
    """The label maps, by the suffix of their file names."""
    ids, train_ids, colours = zip(*(LABELS[o.label] for o in canvas.objects), strict=True)
    # As in the official scripts, numbers count per class in the order of painting.
    seen: Counter = Counter()
    instances = []
    for number in ids:
        instances.append(number * 1000 + seen[number] if number >= FIRST_THING else number)
        seen[number] += 1
    colours = [(*colour, 255) for colour in colours]
    return {
        'labelIds': canvas.lookup(ids, 0, np.uint8),
        'labelTrainIds': canvas.lookup(train_ids, IGNORED, np.uint8),
        'instanceIds': canvas.lookup(instances, 0, np.uint16),
        'color': canvas.lookup(colours, (0, 0, 0, 255), np.uint8),
    }
