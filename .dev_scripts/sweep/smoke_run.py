"""Tries one config: build and initialise it, compute a loss with its gradients, predict."""

from __future__ import annotations

import logging
import os
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import set_random_seed
from torch import nn

from mmcnnmod.layers import MoDBlock

from . import dummy_data
from .case import Case, config_folder, make_case, read_config
from .dummy_weights import loaded, refuse_downloads

MESSAGE_LENGTH = 160


def smoke_run(toolbox: str, name: str, swapped: bool, factor: int = 1) -> dict:
    """Try a toolbox's config with MoD backbones or with its dense ones.

    Returns:
        dict: ``seconds``; ``step`` and ``error`` if it fails.
    """
    seed_and_silence()
    # Some configs contain paths relative to this folder.
    os.chdir(config_folder(toolbox).parent)
    begin = time.monotonic()
    result = {}
    step = 'swap'
    try:
        for begun in steps(make_case(read_config(toolbox, name), swapped, factor)):
            step = begun
    except Exception as problem:
        result = {'step': step, 'error': describe(problem)}
    return {**result, 'seconds': round(time.monotonic() - begin, 1)}


def seed_and_silence() -> None:
    """Seed the random numbers, silence logs and warnings, and refuse downloads."""
    refuse_downloads()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter('ignore')
    set_random_seed(0)


def steps(case: Case) -> Iterator[str]:
    """Run the steps; yields the name of each before it begins."""
    yield 'build'
    init_default_scope(case.cfg.default_scope)
    # Some losses depend on the iteration, which they read from mmengine's message hub.
    MessageHub.get_current_instance().update_info_dict(
        dict(iter=0, epoch=0, max_iters=1, max_epochs=1)
    )
    model = MODELS.build(case.cfg.model)
    blocks = [module for module in model.modules() if isinstance(module, MoDBlock)]
    if case.swapped and not blocks:
        raise RuntimeError('the model has no MoD block')
    yield 'init'
    loaded.clear()
    model.init_weights()
    if not case.weights <= set(loaded):
        raise RuntimeError('a backbone does not load its dense weights')
    if case.trains:
        yield 'loss'
        model.train()
        run_hooks(case.hooks, model, dummy_data.batch(case.needs, training=True))
        model.train()
        data = model.data_preprocessor(dummy_data.batch(case.needs, training=True), True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        if not loss.isfinite():
            raise RuntimeError(f'the loss is {loss.item()}')
        loss.backward()
        check_gradients(blocks)
        model.zero_grad()
    if case.tests:
        yield 'predict'
        model.eval()
        dummy_data.prepare_model(model)
        with torch.no_grad():
            if not model.test_step(dummy_data.batch(case.needs, training=False)):
                raise RuntimeError('the prediction is empty')


def run_hooks(hooks: list[dict], model: nn.Module, batch: dict) -> None:
    """Call ``before_train`` of the hooks that swapping added."""
    logger = logging.getLogger(__name__)
    runner = SimpleNamespace(
        model=model, iter=0, train_dataloader=[batch], train_loop=None, logger=logger
    )
    for hook in hooks:
        HOOKS.build(hook).before_train(runner)


def check_gradients(blocks: list[MoDBlock]) -> None:
    """Fail if no trained MoD block has a gradient, or if a gradient is not finite."""
    parameters = [p for block in blocks for p in block.parameters() if p.requires_grad]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if parameters and not any(gradient.any() for gradient in gradients):
        raise RuntimeError('no gradient reaches the MoD blocks')
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise RuntimeError('a gradient of an MoD block is not finite')


def describe(problem: Exception) -> str:
    """One line with the type of an error, its message, and the file and function that raised it."""
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    origin = f'{"/".join(Path(frame.filename).parts[-3:])}, {frame.name}'
    text = ' '.join(str(problem).split()) or 'no message'
    return f'{type(problem).__name__}: {text[:MESSAGE_LENGTH]} ({origin})'
