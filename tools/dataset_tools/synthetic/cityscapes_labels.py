"""The class table of Cityscapes: names, ids, train ids and colours are facts of that data set."""

from __future__ import annotations

from typing import NamedTuple

IGNORED = 255


class Label(NamedTuple):
    """One class.

    Attributes:
        name: Name as in the polygon files.
        id: Value in ``labelIds``.
        train_id: Value in ``labelTrainIds``; 255 is left out of training and evaluation.
        colour: Colour in the ``color`` picture.
        is_thing: Whether single objects are counted in ``instanceIds``.
    """

    name: str
    id: int
    train_id: int
    colour: tuple[int, int, int]
    is_thing: bool = False


LABELS = (
    Label('unlabeled', 0, IGNORED, (0, 0, 0)),
    Label('ego vehicle', 1, IGNORED, (0, 0, 0)),
    Label('rectification border', 2, IGNORED, (0, 0, 0)),
    Label('out of roi', 3, IGNORED, (0, 0, 0)),
    Label('static', 4, IGNORED, (0, 0, 0)),
    Label('dynamic', 5, IGNORED, (111, 74, 0)),
    Label('ground', 6, IGNORED, (81, 0, 81)),
    Label('road', 7, 0, (128, 64, 128)),
    Label('sidewalk', 8, 1, (244, 35, 232)),
    Label('parking', 9, IGNORED, (250, 170, 160)),
    Label('rail track', 10, IGNORED, (230, 150, 140)),
    Label('building', 11, 2, (70, 70, 70)),
    Label('wall', 12, 3, (102, 102, 156)),
    Label('fence', 13, 4, (190, 153, 153)),
    Label('guard rail', 14, IGNORED, (180, 165, 180)),
    Label('bridge', 15, IGNORED, (150, 100, 100)),
    Label('tunnel', 16, IGNORED, (150, 120, 90)),
    Label('pole', 17, 5, (153, 153, 153)),
    Label('polegroup', 18, IGNORED, (153, 153, 153)),
    Label('traffic light', 19, 6, (250, 170, 30)),
    Label('traffic sign', 20, 7, (220, 220, 0)),
    Label('vegetation', 21, 8, (107, 142, 35)),
    Label('terrain', 22, 9, (152, 251, 152)),
    Label('sky', 23, 10, (70, 130, 180)),
    Label('person', 24, 11, (220, 20, 60), True),
    Label('rider', 25, 12, (255, 0, 0), True),
    Label('car', 26, 13, (0, 0, 142), True),
    Label('truck', 27, 14, (0, 0, 70), True),
    Label('bus', 28, 15, (0, 60, 100), True),
    Label('caravan', 29, IGNORED, (0, 0, 90), True),
    Label('trailer', 30, IGNORED, (0, 0, 110), True),
    Label('train', 31, 16, (0, 80, 100), True),
    Label('motorcycle', 32, 17, (0, 0, 230), True),
    Label('bicycle', 33, 18, (119, 11, 32), True),
)

BY_NAME = {label.name: label for label in LABELS}
TRAIN_CLASSES = tuple(label.name for label in LABELS if label.train_id != IGNORED)
