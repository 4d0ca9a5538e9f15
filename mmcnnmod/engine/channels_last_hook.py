"""Channels-last memory format for any toolbox's model."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ..errors import UserError


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Puts a model's convolutions, and the images that its backbone gets, into channels-last order.

    On GPUs with tensor cores that is the faster order in half precision. In a config:
    ``custom_hooks = [dict(type='ChannelsLastHook')]``. What is computed stays the same up to
    rounding; checkpoints do not depend on it.

    Raises:
        UserError: If the model has no ``backbone``.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Change the order, after weights and a checkpoint have been loaded."""
        self.apply(runner.model)

    def before_test(self, runner: Runner) -> None:
        """The same for testing."""
        self.apply(runner.model)

    def apply(self, model: nn.Module) -> None:
        """Change the order of a model's weights and of its backbone's inputs; once is enough."""
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        if not hasattr(model, 'backbone'):
            raise UserError(
                f'ChannelsLastHook: {type(model).__name__} has no backbone; take it out of '
                'custom_hooks'
            )
        model.to(memory_format=torch.channels_last)
        if order_inputs not in model.backbone._forward_pre_hooks.values():
            model.backbone.register_forward_pre_hook(order_inputs)


def order_inputs(backbone: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The forward pre-hook of the backbone."""
    images, *others = inputs
    return images.contiguous(memory_format=torch.channels_last), *others
