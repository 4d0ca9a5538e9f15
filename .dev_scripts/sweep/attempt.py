"""One config: built, initialised, a loss with its gradients, a prediction."""

from __future__ import annotations

import logging
import os
import random
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, MODELS, init_default_scope
from torch import nn

from mmcnnmod.layers import MoDBlock

from . import made_up
from .checkpoints import loaded, refuse_downloads
from .subject import Subject, config_folder, prepare, read

MESSAGE = 160


def attempt(toolbox: str, name: str, swapped: bool, factor: int = 1) -> dict:
    """Try a config.

    Args:
        toolbox (str): Whose config it is.
        name (str): Its path below the toolbox's configs.
        swapped (bool): With MoD backbones, or as it came.
        factor (int): See :func:`sweep.shrink.shrink`. Defaults to 1.

    Returns:
        dict: ``seconds``, and if it fails ``step`` and ``error``.
    """
    make_calm()
    # Some configs name others relative to this folder.
    os.chdir(config_folder(toolbox).parent)
    begin = time.monotonic()
    result = {}
    step = 'swap'
    try:
        for begun in steps(prepare(read(toolbox, name), swapped, factor)):
            step = begun
    except Exception as problem:
        result = {'step': step, 'error': describe(problem)}
    return {**result, 'seconds': round(time.monotonic() - begin, 1)}


def make_calm() -> None:
    """No downloads, no messages, the same random numbers each time."""
    refuse_downloads()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter('ignore')
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def steps(subject: Subject) -> Iterator[str]:
    """Do one step after the other, giving the name of each before it begins."""
    yield 'build'
    init_default_scope(subject.cfg.default_scope)
    # A runner tells where it is; some losses grow with that.
    MessageHub.get_current_instance().update_info_dict(
        dict(iter=0, epoch=0, max_iters=1, max_epochs=1)
    )
    model = MODELS.build(subject.cfg.model)
    blocks = [module for module in model.modules() if isinstance(module, MoDBlock)]
    if subject.changes and not blocks:
        raise RuntimeError('there is no MoD block in the model')
    yield 'init'
    loaded.clear()
    model.init_weights()
    if not subject.weights <= set(loaded):
        raise RuntimeError('a backbone does not start from its dense weights')
    if subject.trains:
        yield 'loss'
        run_hooks(model, subject)
        compute_loss(model, subject.needs).backward()
        check_gradients(blocks)
        model.zero_grad()
    if subject.tests:
        yield 'predict'
        predict(model, subject.needs)


def run_hooks(model: nn.Module, subject: Subject) -> None:
    """What the hooks that swapping added do before training, with a batch of made-up data."""
    model.train()
    runner = SimpleNamespace(
        model=model,
        iter=0,
        train_dataloader=[made_up.batch(subject.needs, training=True)],
        train_loop=None,
        logger=logging.getLogger(__name__),
    )
    for hook in subject.hooks:
        HOOKS.build(hook).before_train(runner)


def compute_loss(model: nn.Module, needs: dict) -> torch.Tensor:
    """The sum of the losses for made-up data."""
    model.train()
    data = model.data_preprocessor(made_up.batch(needs, training=True), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    if not loss.isfinite():
        raise RuntimeError(f'the loss is {loss.item()}')
    return loss


def check_gradients(blocks: list[MoDBlock]) -> None:
    """Fail if none of the MoD blocks that learn has a gradient, or one is not finite."""
    parameters = [p for block in blocks for p in block.parameters() if p.requires_grad]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if parameters and not any(gradient.any() for gradient in gradients):
        raise RuntimeError('no gradient reaches the MoD blocks')
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise RuntimeError('a gradient of an MoD block is not finite')


def predict(model: nn.Module, needs: dict) -> None:
    """Predict for made-up data."""
    model.eval()
    made_up.equip(model, needs)
    with torch.no_grad():
        results = model.test_step(made_up.batch(needs, training=False))
    if not results:
        raise RuntimeError('there is no prediction')


def describe(problem: Exception) -> str:
    """One line: the kind of error, its message, and where it was raised."""
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    place = f'{"/".join(Path(frame.filename).parts[-3:])}, {frame.name}'
    text = ' '.join(str(problem).split()) or 'no message'
    return f'{type(problem).__name__}: {text[:MESSAGE]} ({place})'
