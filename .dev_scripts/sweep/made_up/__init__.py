"""Made-up data: noise for images, with the annotations that a config's pipeline would load.

One module per toolbox, each with three functions: ``needs`` says what a config's data holds,
``batch`` makes such data, and ``equip`` gives a model what it would take from a whole data set.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from mmengine.config import Config
from torch import nn

BATCH = 2


def needs(cfg: Config, edge: int) -> dict:
    """What the data of a config must hold, as JSON."""
    return {'toolbox': cfg.default_scope, 'edge': edge, **module(cfg.default_scope).needs(cfg)}


def batch(needs: dict, training: bool) -> dict:
    """Two samples as a data loader gives them, one where a model takes no more."""
    return module(needs['toolbox']).batch(needs, training)


def equip(model: nn.Module, needs: dict) -> None:
    """Give a model what it takes from a whole data set before it predicts."""
    module(needs['toolbox']).equip(model, needs)


def module(toolbox: str) -> ModuleType:
    """The module that serves a toolbox."""
    return import_module(f'{__name__}.{toolbox}')
