"""Statistics of batch norms that fit the network as it is now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy

import torch
from mmengine.dist import all_reduce_params
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoints import mod_backbones
from ..errors import UserError

BATCHES = 50  # of training data, unless another number is given


def compute_loss(model: nn.Module, batch: object) -> object:
    """What a step of training computes, as mmengine's models do it."""
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
    """Estimate the running statistics of a model's backbones' batch norms anew, frozen ones too.

    The forwards are those of a copy of the whole model in training mode. So a backbone gets what
    the model gives it, and nothing but these statistics changes. Several processes average theirs.

    Args:
        model (nn.Module): With MoD backbones, or with a ``backbone``; or a backbone.
        batches (Iterable): As in training; at least one.
        forward (Callable): Calls the copy with a batch. Defaults to computing the loss.

    Returns:
        str: How many norms of which backbones; those that saw no batch keep what they had.

    Raises:
        UserError: If there is no backbone.
    """
    names = backbone_names(model)
    try:
        twin = deepcopy(model)
    except Exception as problem:  # process groups, say, cannot be copied
        raise UserError(
            f'{type(model).__name__} cannot be copied to estimate norm statistics ({problem}); '
            'take ReestimateNormsHook out of custom_hooks, and set norm_eval=False'
        ) from problem
    twin.train()  # the toolboxes' own gives nothing
    norms = {}
    for name in names:
        backbone = twin.get_submodule(name)
        for module in backbone.modules():
            if freezes(module):
                module.frozen_stages, module.norm_eval = -1, False
        backbone.train()
        prefix = f'{name}.' if name else ''
        for key, module in backbone.named_modules():
            if isinstance(module, _BatchNorm) and module.track_running_stats:
                norms[prefix + key] = module
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # which averages over all batches
        # In training torch wants it positive; weights converted from Caffe come with 0.
        norm.eps = max(norm.eps, torch.finfo(norm.running_var.dtype).tiny)
    for batch in batches:
        forward(twin, batch)
    seen = {name: norm for name, norm in norms.items() if norm.num_batches_tracked > 0}
    # All of them at once: processes whose models saw other parts would wait for each other.
    statistics = [(norm.running_mean, norm.running_var) for norm in norms.values()]
    all_reduce_params([buffer for pair in statistics for buffer in pair], op='mean')
    for name, norm in seen.items():
        own = model.get_submodule(name)
        own.running_mean.copy_(norm.running_mean)
        own.running_var.copy_(norm.running_var)
    return f'{len(seen)} of {len(norms)} norms of {", ".join(names) or type(model).__name__}'


def backbone_names(model: nn.Module) -> list[str]:
    """The MoD backbones of a model, or its ``backbone``, as ``get_submodule`` takes them."""
    names = list(mod_backbones(model))
    if not names and not hasattr(model, 'backbone'):
        raise UserError(
            f'{type(model).__name__} has no backbone whose norms could be estimated; take '
            'ReestimateNormsHook out of custom_hooks'
        )
    return names or ['backbone']


def freezes(module: nn.Module) -> bool:
    """Whether a module keeps some of its norms in evaluation mode."""
    return hasattr(module, 'frozen_stages') and hasattr(module, 'norm_eval')
