"""Norms folded into the convolutions before them, for inference."""

from __future__ import annotations

from mmcv.cnn import fuse_conv_bn
from mmcv.cnn.bricks import ConvAWS2d, ConvWS2d
from torch import nn

STANDARDIZED = (ConvWS2d, ConvAWS2d)


def fold_norms(module: nn.Module) -> None:
    """Fold every BatchNorm into the convolution that it follows, in place.

    Other norms depend on the input and stay. Standardised convolutions scale their weights anew at
    every call, which would undo the fold, so that a module with one of them stays as it is.

    Args:
        module (nn.Module): In eval mode.
    """
    if not any(isinstance(layer, STANDARDIZED) for layer in module.modules()):
        fuse_conv_bn(module)
