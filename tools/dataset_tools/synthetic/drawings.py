"""The drawings by class name, and the colours each of them is usually seen in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import creatures, household, vehicles
from .shapes import Colour, Part, pick, vary

Draw = Callable[[np.random.Generator, Colour], list[Part]]

PAINTS: tuple[Colour, ...] = (
    (196, 40, 40),
    (40, 84, 170),
    (224, 224, 220),
    (60, 62, 66),
    (160, 166, 172),
    (46, 110, 74),
    (226, 180, 50),
)
_FURS: tuple[Colour, ...] = ((166, 112, 62), (96, 66, 44), (214, 178, 128), (120, 116, 112))
_WOODS: tuple[Colour, ...] = ((164, 108, 60), (196, 148, 92), (112, 70, 44))
_CLOTHS: tuple[Colour, ...] = ((176, 60, 66), (70, 100, 150), (120, 140, 90), (150, 110, 160))

VOC_DRAWINGS: dict[str, tuple[Draw, tuple[Colour, ...]]] = {
    'aeroplane': (vehicles.aeroplane, ((40, 84, 170), (196, 40, 40), (46, 130, 130))),
    'bicycle': (vehicles.bicycle, ((206, 40, 40), (30, 110, 190), (40, 140, 80))),
    'bird': (creatures.bird, ((60, 120, 190), (200, 70, 50), (230, 190, 60))),
    'boat': (vehicles.boat, ((176, 50, 44), (40, 70, 120), (130, 84, 50))),
    'bottle': (household.bottle, ((36, 110, 60), (120, 70, 30), (90, 150, 190))),
    'bus': (vehicles.bus, ((236, 178, 30), (214, 60, 40))),
    'car': (vehicles.car, PAINTS),
    'cat': (creatures.cat, ((222, 146, 70), (130, 126, 124), (90, 70, 60))),
    'chair': (household.chair, _WOODS),
    'cow': (creatures.cow, ((236, 232, 224), (140, 84, 50))),
    'diningtable': (household.diningtable, _WOODS),
    'dog': (creatures.dog, _FURS),
    'horse': (creatures.horse, ((134, 78, 44), (84, 54, 38), (196, 190, 180))),
    'motorbike': (vehicles.motorbike, ((206, 36, 36), (230, 120, 20), (40, 70, 180))),
    'person': (creatures.person, _CLOTHS),
    'pottedplant': (household.pottedplant, ((190, 98, 60), (210, 206, 200))),
    'sheep': (creatures.sheep, ((214, 206, 190), (190, 184, 176))),
    'sofa': (household.sofa, _CLOTHS),
    'train': (vehicles.train, ((20, 130, 120), (170, 30, 60), (50, 70, 160))),
    'tvmonitor': (household.tvmonitor, ((60, 130, 70), (60, 90, 180), (190, 110, 60))),
}


def draw_voc(rng: np.random.Generator, name: str) -> list[Part]:
    """Draw a VOC class in one of its usual colours."""
    draw, colours = VOC_DRAWINGS[name]
    return draw(rng, vary(rng, pick(rng, colours)))
