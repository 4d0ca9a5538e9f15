"""A hook that stops a training whose loss is not finite."""

from __future__ import annotations

import math

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ..errors import UserError


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops a training when its loss is NaN or infinite, before a checkpoint is written.

    In a config: ``custom_hooks = [dict(type='FiniteLossHook')]``. The tools of this project add it.

    Args:
        patience (int): With loss scaling, whose optimizer skips steps with infinite gradients, the
            number of consecutive iterations after which the training stops. Without, it stops at
            the first. Defaults to 20.

    Raises:
        UserError: If the training stops. The message names the iteration and the parts of the loss.
    """

    priority = 'VERY_HIGH'  # before a checkpoint is written

    def __init__(self, patience: int = 20) -> None:
        self.patience = patience
        self.in_a_row = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict | None = None,
    ) -> None:
        """Check the loss."""
        if not outputs or 'loss' not in outputs:
            return
        loss = outputs['loss']  # usually a tensor, in some runners with gradients
        if math.isfinite(loss.detach() if isinstance(loss, Tensor) else loss):
            self.in_a_row = 0
            return
        self.in_a_row += 1
        patience = self.patience if hasattr(runner.optim_wrapper, 'loss_scaler') else 1
        if self.in_a_row < patience:
            return
        parts = ', '.join(
            f'{name} {float(value):.4g}' for name, value in outputs.items() if 'loss' in name
        )
        raise UserError(
            f'the loss is not finite in iteration {runner.iter + 1} ({parts}): try a lower '
            'learning rate, a warm-up or gradient clipping, and check the labels; an earlier '
            'checkpoint may be better than the last'
        )
