"""A start from which every layer of an MoD block can learn."""

import torch
from torch import nn


@torch.no_grad()
def init_first_unit_nonnegative_(module: nn.Module) -> None:
    """Make the first filter of every layer non-negative, the others stay as they were drawn.

    What arrives in an MoD block of a ResNet or VGG has passed a ReLU and is never negative. A
    filter whose weights happen to sum below zero is then off for every image unless a norm centres
    its output, which BN does not in eval mode (mmdetection's default). A layer as narrow as these,
    1 to 4 filters, often starts with all of them off: no gradient, for ever. One non-negative
    filter in each layer rules that out.

    The blocks of MobileNetV2 and ConvNeXt end linearly, so that their maps have both signs and
    nothing is ruled out: a selector with one hidden unit (MobileNetV2's stage of 24 channels) is
    off for about every second image, which then has equal scores, and with ``norm_eval`` it may
    start off for all.

    Args:
        module (nn.Module): Changed in place.
    """
    for parameter in module.parameters():
        if parameter.dim() > 1:
            parameter[0].abs_()
