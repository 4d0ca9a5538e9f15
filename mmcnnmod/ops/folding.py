"""Folding BatchNorm into convolutions, for inference."""

from __future__ import annotations

from mmcv.cnn import ConvModule, fuse_conv_bn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers.conv_block import STANDARDIZED_CONVS


def fold_batch_norms(module: nn.Module) -> None:
    """Fold each BatchNorm into the convolution before it, in place.

    Other norms stay, because they depend on the input. Nothing is folded if the module contains a
    convolution with weight standardisation (which would undo the fold), a BatchNorm without
    statistics or weights, or a ConvModule whose norm does not follow its convolution.

    Args:
        module (nn.Module): The module. It is set to eval mode.
    """
    if all(is_foldable(layer) for layer in module.modules()):
        fuse_conv_bn(module)
    module.eval()


def is_foldable(layer: nn.Module) -> bool:
    """Whether a layer allows folding."""
    if isinstance(layer, _BatchNorm):
        return layer.affine and layer.running_mean is not None
    if isinstance(layer, ConvModule):
        return layer.order == ('conv', 'norm', 'act')
    return not isinstance(layer, STANDARDIZED_CONVS)
