"""A hook that converts a model of any toolbox to channels-last memory format."""

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
    """Converts a model's weights and the inputs of its backbone to channels-last format.

    In half precision this is faster on GPUs with tensor cores. In a config:
    ``custom_hooks = [dict(type='ChannelsLastHook')]``. Results are the same up to rounding;
    checkpoints do not change.

    Raises:
        UserError: If the model has no ``backbone``.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Convert the model after its weights have been loaded."""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        if not hasattr(model, 'backbone'):
            raise UserError(
                f'ChannelsLastHook: {type(model).__name__} has no backbone; remove it from '
                'custom_hooks'
            )
        model.to(memory_format=torch.channels_last)
        if convert_inputs not in model.backbone._forward_pre_hooks.values():
            model.backbone.register_forward_pre_hook(convert_inputs)

    before_test = before_train


def convert_inputs(backbone: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Convert the images to channels-last format, as a forward pre-hook of the backbone."""
    images, *others = inputs
    return images.contiguous(memory_format=torch.channels_last), *others
