"""Statistics of batch norms that fit the network as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mmengine.dist import all_reduce_params
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn


def reestimate_norms(backbone: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate the running statistics of a backbone's batch norms anew, frozen ones too.

    Several processes average theirs. Its mode, its frozen stages and ``norm_eval`` stay.

    Args:
        backbone (nn.Module): Of any toolbox; the backbone that freezes may be inside it.
        batches (Iterable[Tensor]): Images of shape (N, 3, H, W) as in training; at least one.
    """
    freezing = [(m, m.frozen_stages, m.norm_eval) for m in backbone.modules() if freezes(m)]
    was_training = backbone.training
    for module, _, _ in freezing:
        module.frozen_stages, module.norm_eval = -1, False
    try:
        update_bn(batches, backbone)
    finally:
        for module, frozen_stages, norm_eval in freezing:
            module.frozen_stages, module.norm_eval = frozen_stages, norm_eval
        backbone.train(was_training)
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    statistics = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    all_reduce_params([buffer for buffer in statistics if buffer is not None], op='mean')


def images(model: nn.Module, batches: Iterable[dict]) -> Iterator[Tensor]:
    """What a model's backbone gets of batches from a data loader for training."""
    for batch in batches:
        yield model.data_preprocessor(batch, training=True)['inputs']


def freezes(module: nn.Module) -> bool:
    """Whether a module keeps some of its norms in evaluation mode."""
    return hasattr(module, 'frozen_stages') and hasattr(module, 'norm_eval')
