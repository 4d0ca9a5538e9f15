"""Re-estimates the statistics of batch norms after the warm start of an MoD network."""

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
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoints import mod_backbones
from ..errors import UserError

BATCHES = 50  # the default number of batches


@HOOKS.register_module()
class ReestimateNormsHook(Hook):
    """Re-estimates the running statistics of the backbones' batch norms before the training.

    The statistics of a dense network do not fit an MoD network, where MoD blocks replace half of
    the dense blocks. With ``norm_eval=True``, mmdetection's default, training would never correct
    them. In a config: ``custom_hooks = [dict(type='ReestimateNormsHook')]``. The hook does nothing
    when a training is resumed.

    A copy of the model computes the loss of some training batches, so that its backbones get the
    same inputs as in training: images, video frames or feature maps of another network.

    Args:
        batches (int): The number of training batches to use. Defaults to 50.

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
        """Re-estimate the statistics, unless the training is resumed."""
        if runner.iter > 0:
            return
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        # An iteration-based loop has its own iterator. Use this one: an InfiniteSampler can be
        # iterated over only once, so with another iterator the loop would get no batches.
        loader = getattr(runner.train_loop, 'dataloader_iterator', runner.train_dataloader)
        count = min(self.batches, len(runner.train_dataloader))
        summary = reestimate_norms(model, islice(loader, count))
        runner.logger.info(f'norm statistics estimated from {count} batches: {summary}')


def compute_loss(model: nn.Module, batch: object) -> object:
    """Compute the loss of a batch as mmengine's models do."""
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

    This includes frozen norms. A copy of the model runs in training mode, so only the statistics of
    the model change. With several processes, the statistics are averaged.

    Args:
        model (nn.Module): An MoD backbone, or a model with MoD backbones or a ``backbone``.
        batches (Iterable): Training batches; at least one.
        forward (Callable): Runs the copy on a batch. Defaults to computing the loss.

    Returns:
        str: How many norms of which backbones were re-estimated. Norms that no batch uses keep
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
        model_copy = deepcopy(model, copies_of_computed_tensors(model))
    except Exception as problem:  # for example, process groups cannot be copied
        raise UserError(
            f'{type(model).__name__} cannot be copied to estimate norm statistics ({problem}); '
            'remove ReestimateNormsHook from custom_hooks, and set norm_eval=False'
        ) from problem
    model_copy.train()
    norms = {}
    for name in names:
        backbone = model_copy.get_submodule(name)
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
        norm.momentum = None  # the mean over all batches
        # Networks converted from Caffe have eps=0, but torch requires a positive eps in training.
        norm.eps = max(norm.eps, torch.finfo(norm.running_var.dtype).tiny)
    for batch in batches:
        forward(model_copy, batch)
    # Include unused norms, because other processes may have used them.
    statistics = [(norm.running_mean, norm.running_var) for norm in norms.values()]
    all_reduce_params([buffer for pair in statistics for buffer in pair], op='mean')
    used = {name: norm for name, norm in norms.items() if norm.num_batches_tracked > 0}
    for name, norm in used.items():
        original = model.get_submodule(name)
        original.running_mean.copy_(norm.running_mean)
        original.running_var.copy_(norm.running_var)
    return f'{len(used)} of {len(norms)} norms of {", ".join(names) or type(model).__name__}'


def copies_of_computed_tensors(model: nn.Module) -> dict[int, Tensor]:
    """Copies of the tensors that are computed from weights, by their id, for ``deepcopy``.

    torch does not copy such tensors itself. CLRNet has them as buffers, layers with
    ``torch.nn.utils.weight_norm`` as attributes.
    """
    tensors = (
        value
        for module in model.modules()
        for value in (*module.buffers(recurse=False), *vars(module).values())
        if isinstance(value, Tensor) and not value.is_leaf
    )
    return {id(tensor): tensor.detach().clone() for tensor in tensors}
