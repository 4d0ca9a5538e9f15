"""Norm statistics that fit a network after its warm start from dense weights."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..errors import UserError
from .norm_statistics import BATCHES, reestimate_norms


@HOOKS.register_module()
class ReestimateNormsHook(Hook):
    """Estimates the running statistics of the backbones' batch norms before training begins.

    The statistics in dense weights are those of all dense blocks in a row. In an MoD network half
    of them are missing, and ``norm_eval=True``, mmdetection's default, would keep the wrong ones
    for ever. In a config: ``custom_hooks = [dict(type='ReestimateNormsHook')]``. A resumed run is
    left alone.

    A copy of the model computes its own loss for these batches, so that a backbone sees what it
    sees in training, be it pictures, the frames of videos or the maps of another network.

    Args:
        batches (int): Batches of the training data to look at. Defaults to 50.

    Raises:
        UserError: If ``batches`` is no positive integer, or the model has neither an MoD backbone
            nor a ``backbone``.
    """

    def __init__(self, batches: int = BATCHES) -> None:
        if isinstance(batches, bool) or not isinstance(batches, int) or batches < 1:
            raise UserError(
                f'ReestimateNormsHook: batches must be a positive integer, got {batches!r}'
            )
        self.batches = batches

    def before_train(self, runner: Runner) -> None:
        """Look at the batches, unless training goes on from a checkpoint of its own."""
        if runner.iter > 0:
            return
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        count = min(self.batches, len(runner.train_dataloader))
        seen = reestimate_norms(model, islice(loading(runner), count))
        runner.logger.info(f'norm statistics estimated from {count} batches: {seen}')


def loading(runner: Runner) -> Iterable[dict]:
    """The batches of a training, from the iterator of a loop that counts iterations.

    Such a loop often has an InfiniteSampler, which is exhausted after it was iterated over once;
    the loop would then find no batch any more.
    """
    return getattr(runner.train_loop, 'dataloader_iterator', runner.train_dataloader)
