"""What the kernels are handed: maps and layers as tuples, or a reason why that is not possible."""

from __future__ import annotations

from typing import NamedTuple

from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MOST_K = 32  # channels of a Conv-Block at a pixel, which a program holds at once
# Not overridden; mmengine's stand-in for SyncBN on one device is neither class.
NORM_FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)


class NotCoveredError(Exception):
    """The kernels do not compute this; the message says what, in one line."""


class Map(NamedTuple):
    """A feature map, read as (N, C, H * W): its memory and the three strides."""

    data: Tensor
    sample: int
    channel: int
    pixel: int


class Layer(NamedTuple):
    """A convolution and its norm in eval mode: the modules' own tensors, nothing folded.

    ``output``, ``input`` and ``tap`` are the strides of the weight, read as (O, I, size * size).
    """

    weight: Tensor
    output: int
    input: int
    tap: int
    dilation: int
    bias: Tensor | None
    mean: Tensor | None = None
    variance: Tensor | None = None
    gamma: Tensor | None = None
    beta: Tensor | None = None
    eps: float = 0.0


def as_map(x: Tensor) -> Map:
    """A feature map of shape (N, C, H, W) as the kernels see it."""
    return Map(x, x.stride(0), x.stride(1), flat_stride(x))


def flat_stride(x: Tensor) -> int:
    """The stride of a tensor's last two dimensions as one; NotCoveredError if there is none."""
    (height, width), (down, right) = x.shape[-2:], x.stride()[-2:]
    if width == 1:
        return down
    if height > 1 and down != width * right:
        raise NotCoveredError('the strides are such that rows do not follow upon each other')
    return right


def conv_layers(conv_block: nn.Module) -> tuple[Layer, Layer, Layer | None]:
    """The layers of a Conv-Block.

    Args:
        conv_block (nn.Module): A basic block or a bottleneck.

    Returns:
        tuple[Layer, Layer, Layer | None]: 3x3, 3x3, None or 1x1, 3x3, 1x1.

    Raises:
        NotCoveredError: If it is anything else.
    """
    modules = list(conv_block) if isinstance(conv_block, nn.Sequential) else [conv_block]
    layers = [as_layer(module) for module in modules]
    if tuple(layer.weight.shape[-1] for layer in layers) not in ((3, 3), (1, 3, 1)):
        raise NotCoveredError('the Conv-Block is neither a basic block nor a bottleneck')
    if not all(module.with_activation for module in modules[:-1]):
        raise NotCoveredError('the Conv-Block has a layer without activation')
    widest = max(layer.weight.shape[0] for layer in layers)
    if widest > MOST_K:
        raise NotCoveredError(f'the Conv-Block is {widest} channels wide; covered are {MOST_K}')
    return layers[0], layers[1], layers[2] if len(layers) == 3 else None


def as_layer(module: nn.Module) -> Layer:
    """A layer of a Conv-Block as the kernels see it; NotCoveredError if they do not know it."""
    known = type(module) is ConvModule and module.order == ('conv', 'norm', 'act')
    if not known or module.with_explicit_padding or not is_plain(module.conv):
        raise NotCoveredError('the Conv-Block has a layer that is no plain convolution')
    if module.with_activation and type(module.activate) is not nn.ReLU:
        name = type(module.activate).__name__
        raise NotCoveredError(f"the Conv-Block's activation is {name}, not ReLU")
    conv, norm = module.conv, module.norm
    strides = (*conv.weight.stride()[:2], flat_stride(conv.weight))
    convolution = (conv.weight, *strides, conv.dilation[0], conv.bias)
    # An identity stands where a norm was folded into its convolution.
    if norm is None or type(norm) is nn.Identity:
        return Layer(*convolution)
    if type(norm).forward not in NORM_FORWARDS or norm.running_mean is None:
        name = type(norm).__name__
        raise NotCoveredError(f"the Conv-Block's norm is {name}, not BatchNorm with statistics")
    statistics = (norm.running_mean, norm.running_var)
    return Layer(*convolution, *statistics, norm.weight, norm.bias, norm.eps)


def is_plain(conv: nn.Module) -> bool:
    """Whether it is a convolution over all channels, square and shape-preserving."""
    if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.padding_mode != 'zeros':
        return False
    size, dilation = conv.kernel_size[0], conv.dilation[0]
    square = conv.kernel_size == (size, size) and conv.dilation == (dilation, dilation)
    return square and conv.stride == (1, 1) and conv.padding == (dilation * (size // 2),) * 2
