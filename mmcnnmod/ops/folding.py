"""Norms folded into the convolutions before them, for inference."""

from __future__ import annotations

from mmcv.cnn import ConvModule, fuse_conv_bn
from mmcv.cnn.bricks import ConvAWS2d, ConvWS2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

STANDARDIZED = (ConvWS2d, ConvAWS2d)


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every BatchNorm into the convolution that it follows, in place.

    Other norms depend on the input and stay. Nothing is folded in a module that holds a
    standardised convolution, which would undo the fold at every call, a BatchNorm without
    statistics or weights, or a ConvModule whose norm does not follow its convolution.

    Args:
        module (nn.Module): It is in eval mode afterwards.
    """
    if all(is_foldable(layer) for layer in module.modules()):
        fuse_conv_bn(module)
    module.eval()


def is_foldable(layer: nn.Module) -> bool:
    """Whether a layer is nothing that folding would get wrong."""
    if isinstance(layer, _BatchNorm):
        return layer.affine and layer.running_mean is not None
    if isinstance(layer, ConvModule):
        return layer.order == ('conv', 'norm', 'act')
    return not isinstance(layer, STANDARDIZED)
