"""Statistics of batch norms that fit an MoD network after its warm start from dense weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import islice

import torch
from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoints import mod_backbones
from ..errors import UserError

BATCHES = 50  # the default number of batches of training data


@HOOKS.register_module()
class ReestimateNormsHook(Hook):
    """Re-estimates the running statistics of the backbones' batch norms before training begins.

    The statistics in dense weights come from all dense blocks in a row. In an MoD network half of
    these are missing, and ``norm_eval=True``, mmdetection's default, would keep the wrong
    statistics for good. In a config: ``custom_hooks = [dict(type='ReestimateNormsHook')]``. The
    hook does nothing when a training is resumed.

    A copy of the model computes its loss for these batches, so a backbone gets the same inputs as
    in training, whether they are images, video frames or the feature maps of another network.

    Args:
        batches (int): The number of batches of training data to use. Defaults to 50.

    Raises:
        UserError: If ``batches`` is not a positive integer, or the model has neither an MoD
            backbone nor a ``backbone``.
    """

    def __init__(self, batches: int = BATCHES) -> None:
        if isinstance(batches, bool) or not isinstance(batches, int) or batches < 1:
            raise UserError(
                f'ReestimateNormsHook: batches must be a positive integer, got {batches!r}'
            )
        self.batches = batches

    def before_train(self, runner: Runner) -> None:
        """Estimate the statistics, unless the training is resumed."""
        if runner.iter > 0:
            return
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        # A loop that counts iterations often has an InfiniteSampler, which can be iterated over
        # only once. Another iterator would leave no batches for the loop, so its own is used.
        loader = getattr(runner.train_loop, 'dataloader_iterator', runner.train_dataloader)
        count = min(self.batches, len(runner.train_dataloader))
        seen = reestimate_norms(model, islice(loader, count))
        runner.logger.info(f'norm statistics estimated from {count} batches: {seen}')


def compute_loss(model: nn.Module, batch: object) -> object:
    """Compute the loss of a batch in the way of mmengine's models."""
    data = model.data_preprocessor(batch, training=True)
    if isinstance(data, dict):
        return model(**data, mode='loss')
    return model(*data, mode='loss')


@torch.no_grad()
def reestimate_norms(
    model: nn.Module,
    batches: Iterable,
    forward: Callable[[nn.Module, object], object] = compute_loss,
) -> str:
    """Re-estimate the running statistics of the batch norms in a model's backbones.

    This includes frozen norms. A copy of the whole model runs in training mode, so nothing but the
    statistics of the model changes. With several processes, the statistics are averaged.

    Args:
        model (nn.Module): An MoD backbone, or a model with some, or with a ``backbone``.
        batches (Iterable): Batches as in training; at least one.
        forward (Callable): Runs the copy on a batch. Defaults to computing the loss.

    Returns:
        str: How many norms of which backbones were re-estimated. Norms that no batch reached keep
        their statistics.

    Raises:
        UserError: If there is no backbone, or the model cannot be copied.
    """
    names = list(mod_backbones(model))
    if not names and not hasattr(model, 'backbone'):
        raise UserError(
            f'{type(model).__name__} has no backbone whose norms could be estimated; remove '
            'ReestimateNormsHook from custom_hooks'
        )
    names = names or ['backbone']
    try:
        twin = deepcopy(model)
    except Exception as problem:  # for example, process groups cannot be copied
        raise UserError(
            f'{type(model).__name__} cannot be copied to estimate norm statistics ({problem}); '
            'remove ReestimateNormsHook from custom_hooks, and set norm_eval=False'
        ) from problem
    twin.train()
    norms = {}
    for name in names:
        backbone = twin.get_submodule(name)
        for module in backbone.modules():
            if hasattr(module, 'frozen_stages') and hasattr(module, 'norm_eval'):
                module.frozen_stages, module.norm_eval = -1, False
        backbone.train()
        prefix = f'{name}.' if name else ''
        for key, module in backbone.named_modules():
            if isinstance(module, _BatchNorm) and module.track_running_stats:
                norms[prefix + key] = module
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
        # torch requires a positive eps in training; weights converted from Caffe have 0.
        norm.eps = max(norm.eps, torch.finfo(norm.running_var.dtype).tiny)
    for batch in batches:
        forward(twin, batch)
    # Reduce the unused norms as well: the processes may have used different parts of the model.
    statistics = [(norm.running_mean, norm.running_var) for norm in norms.values()]
    all_reduce_params([buffer for pair in statistics for buffer in pair], op='mean')
    seen = {name: norm for name, norm in norms.items() if norm.num_batches_tracked > 0}
    for name, norm in seen.items():
        own = model.get_submodule(name)
        own.running_mean.copy_(norm.running_mean)
        own.running_var.copy_(norm.running_var)
    return f'{len(seen)} of {len(norms)} norms of {", ".join(names) or type(model).__name__}'
