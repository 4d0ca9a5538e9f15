"""Initialisation with which every layer of an MoD block can learn."""

import torch
from torch import nn


@torch.no_grad()
def init_first_unit_nonnegative_(module: nn.Module) -> None:
    """Make the first filter of every layer non-negative; the others stay as they are.

    In a ResNet or VGG, the input of an MoD block comes from a ReLU and is never negative. A filter
    whose weights have a negative sum is then inactive for most images, unless a norm centres its
    output, which BN does not do in eval mode (mmdetection's default). Layers with 1 to 4 filters
    often start with all filters inactive and never get a gradient. One non-negative filter in each
    layer prevents that.

    In MobileNetV2 and ConvNeXt this does not always help, because their maps have both signs. A
    selector with one hidden unit (MobileNetV2's stage of 24 channels) is inactive for about
    half of the images; all channels of such an image get the same score. With ``norm_eval`` it may
    start inactive for all images.

    Args:
        module (nn.Module): Changed in place.
    """
    for parameter in module.parameters():
        if parameter.dim() > 1:
            parameter[0].abs_()
