"""An initialisation with which every layer of an MoD block can learn."""

import torch
from torch import nn


@torch.no_grad()
def init_first_unit_nonnegative_(module: nn.Module) -> None:
    """Make the first filter of every layer non-negative; the others stay as they are.

    The input of an MoD block in a ResNet or VGG comes from a ReLU and is never negative. A filter
    whose weights sum to less than zero is then inactive for every image unless a norm centres its
    output, which BN does not in eval mode (mmdetection's default). Layers as narrow as these, with
    1 to 4 filters, often start with all filters inactive and never get a gradient. One non-negative
    filter in each layer prevents that.

    The blocks of MobileNetV2 and ConvNeXt end with a linear layer, so their maps have both signs
    and the problem can still occur: a selector with one hidden unit (MobileNetV2's stage of 24
    channels) is inactive for about every second image, which then has equal scores, and with
    ``norm_eval`` it may start inactive for all images.

    Args:
        module (nn.Module): Changed in place.
    """
    for parameter in module.parameters():
        if parameter.dim() > 1:
            parameter[0].abs_()
