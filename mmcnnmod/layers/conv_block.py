"""The Conv-Blocks that process the k selected channels (Section 3.2).

Each Conv-Block is the block of its architecture with k channels and stride 1. It has no shortcut,
because the fusion is the shortcut. The last activation comes before the multiplication with the
scores: in the paper, the Conv-Block ends with that multiplication and the fused map is passed on
"without additional adjustments" (Sections 3 and 3.2). An activation after the sum would have the
same number of MACs and parameters; docs/experiments.md compares the two. Inverted residuals and
ConvNeXt blocks have no last activation.

Widths, dilations and ratios must be positive integers, otherwise a ValueError is raised.
"""

from __future__ import annotations

from collections.abc import Callable

from mmcv.cnn import ConvAWS2d, ConvModule, ConvWS2d
from mmcv.cnn.bricks import LayerScale
from mmengine.registry import MODELS
from torch import nn

from .checks import check_positive_int

RELU = dict(type='ReLU')
RELU6 = dict(type='ReLU6')
BATCH_NORM = dict(type='BN')
STANDARDIZED_CONVS = (ConvWS2d, ConvAWS2d)


def bottleneck(
    k: int,
    expansion: int = 4,
    dilation: int = 1,
    conv_cfg: dict | None = None,
    norm_cfg: dict = BATCH_NORM,
    act_cfg: dict = RELU,
) -> nn.Sequential:
    """A ResNet bottleneck on k channels: 1x1 to ``k // expansion`` (at least 1), 3x3, 1x1 to k.

    Args:
        k (int): Channels in and out.
        expansion (int): Ratio of k to the middle width. Defaults to 4.
        dilation (int): Dilation of the 3x3 convolution. Defaults to 1.
        conv_cfg (dict, optional): mmcv's config of the convolutions. Defaults to None (Conv2d).
        norm_cfg (dict): mmcv's config of the norms. Defaults to ``dict(type='BN')``.
        act_cfg (dict): mmcv's config of the activations. Defaults to ``dict(type='ReLU')``.

    Returns:
        nn.Sequential: Three ``ConvModule``; maps (N, k, H, W) to the same shape.
    """
    check_counts('bottleneck', k=k, expansion=expansion, dilation=dilation)
    mid = max(1, k // expansion)
    cfgs = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
    return nn.Sequential(
        conv_norm_act(k, mid, 1, **cfgs),
        conv_norm_act(mid, mid, 3, dilation=dilation, **cfgs),
        conv_norm_act(mid, k, 1, **cfgs),
    )


def basic_block(
    k: int,
    dilation: int = 1,
    conv_cfg: dict | None = None,
    norm_cfg: dict = BATCH_NORM,
    act_cfg: dict = RELU,
) -> nn.Sequential:
    """A ResNet basic block on k channels: 3x3, 3x3.

    Args:
        k (int): Channels in and out.
        dilation (int): Dilation of the first convolution, as in the toolboxes' BasicBlock.
            Defaults to 1.
        conv_cfg (dict, optional): mmcv's config of the convolutions. Defaults to None (Conv2d).
        norm_cfg (dict): mmcv's config of the norms. Defaults to ``dict(type='BN')``.
        act_cfg (dict): mmcv's config of the activations. Defaults to ``dict(type='ReLU')``.

    Returns:
        nn.Sequential: Two ``ConvModule``; maps (N, k, H, W) to the same shape.
    """
    check_counts('basic_block', k=k, dilation=dilation)
    cfgs = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
    return nn.Sequential(
        conv_norm_act(k, k, 3, dilation=dilation, **cfgs),
        conv_norm_act(k, k, 3, **cfgs),
    )


def inverted_residual(
    k: int,
    hidden_channels: int,
    dilation: int = 1,
    conv_cfg: dict | None = None,
    norm_cfg: dict = BATCH_NORM,
    act_cfg: dict = RELU6,
) -> nn.Sequential:
    """MobileNetV2's inverted residual on k channels: 1x1 expansion, depthwise 3x3, linear 1x1.

    Args:
        k (int): Channels in and out.
        hidden_channels (int): Width of the depthwise convolution. The paper's counts
            imply floor(t * C / c) for an expansion factor t. If it equals k, there is no expansion
            layer.
        dilation (int): Dilation of the depthwise convolution. Defaults to 1.
        conv_cfg (dict, optional): mmcv's config of the convolutions. Defaults to None (Conv2d).
        norm_cfg (dict): mmcv's config of the norms. Defaults to ``dict(type='BN')``.
        act_cfg (dict): mmcv's config of the activations. Defaults to ``dict(type='ReLU6')``.

    Returns:
        nn.Sequential: Two or three ``ConvModule``; maps (N, k, H, W) to the same shape.
    """
    check_counts('inverted_residual', k=k, hidden_channels=hidden_channels, dilation=dilation)
    cfgs = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
    depthwise = dict(dilation=dilation, groups=hidden_channels, act_cfg=act_cfg)
    layers = []
    if hidden_channels != k:
        layers.append(conv_norm_act(k, hidden_channels, 1, act_cfg=act_cfg, **cfgs))
    layers.append(conv_norm_act(hidden_channels, hidden_channels, 3, **depthwise, **cfgs))
    layers.append(conv_norm_act(hidden_channels, k, 1, act_cfg=None, **cfgs))
    return nn.Sequential(*layers)


def plain_conv(
    k: int,
    dilation: int = 1,
    conv_cfg: dict | None = None,
    norm_cfg: dict | None = BATCH_NORM,
    act_cfg: dict = RELU,
) -> nn.Sequential:
    """A layer of VGG on k channels: a 3x3 convolution with bias, even if a norm follows.

    Args:
        k (int): Channels in and out.
        dilation (int): Dilation of the convolution. Defaults to 1.
        conv_cfg (dict, optional): mmcv's config of the convolution. Defaults to None (Conv2d).
        norm_cfg (dict, optional): mmcv's config of the norm; None for no norm. Defaults to
            ``dict(type='BN')``.
        act_cfg (dict): mmcv's config of the activation. Defaults to ``dict(type='ReLU')``.

    Returns:
        nn.Sequential: One ``ConvModule``; maps (N, k, H, W) to the same shape.
    """
    check_counts('plain_conv', k=k, dilation=dilation)
    cfgs = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
    return nn.Sequential(conv_norm_act(k, k, 3, dilation=dilation, bias=True, **cfgs))


def convnext_block(
    k: int,
    norm: Callable[[int], nn.Module],
    kernel_size: int = 7,
    expansion: int = 4,
    activation: Callable[[], nn.Module] = nn.GELU,
    response_norm: Callable[[int], nn.Module] | None = None,
    layer_scale: float | None = 1e-6,
) -> nn.Sequential:
    """A ConvNeXt block on k channels: depthwise, norm, 1x1, activation, 1x1, layer scale.

    LayerNorm over one channel is constant, and over two channels it gives only the sign of their
    difference, so the layers before it could not learn. For k <= 2 the norm is therefore a
    GroupNorm with one group, which has as many parameters and also normalises over the positions.
    torch raises an error for k = 1 on a 1x1 map of a single image.

    Args:
        k (int): Channels in and out.
        norm (Callable[[int], nn.Module]): Builds the norm for a width above two, in ConvNeXt a
            LayerNorm over channels.
        kernel_size (int): Kernel size of the depthwise convolution. Defaults to 7.
        expansion (int): Ratio of the width between the 1x1 convolutions to k. Defaults to 4.
        activation (Callable[[], nn.Module]): Builds the activation. Defaults to ``nn.GELU``.
        response_norm (Callable[[int], nn.Module], optional): Builds ConvNeXt V2's global response
            normalisation. Defaults to None.
        layer_scale (float, optional): Initial value of the layer scale; None for no layer scale.
            Defaults to 1e-6.

    Returns:
        nn.Sequential: Maps (N, k, H, W) to the same shape.
    """
    check_counts('convnext_block', k=k, kernel_size=kernel_size, expansion=expansion)
    hidden_channels = expansion * k
    layers = [
        nn.Conv2d(k, k, kernel_size, padding=kernel_size // 2, groups=k),
        norm(k) if k > 2 else nn.GroupNorm(1, k),
        nn.Conv2d(k, hidden_channels, 1),
        activation(),
    ]
    if response_norm is not None:
        layers.append(response_norm(hidden_channels))
    layers.append(nn.Conv2d(hidden_channels, k, 1))
    if layer_scale is not None:
        layers.append(LayerScale(k, data_format='channels_first', scale=layer_scale))
    return nn.Sequential(*layers)


def check_counts(name: str, **counts: int) -> None:
    """Raise a ValueError unless every value is a positive integer."""
    for option, value in counts.items():
        check_positive_int(name, option, value)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    dilation: int = 1,
    groups: int = 1,
    bias: bool | str = 'auto',
    conv_cfg: dict | None = None,
    norm_cfg: dict | None = BATCH_NORM,
    act_cfg: dict | None = RELU,
) -> ConvModule:
    """A convolution that keeps height and width, with norm and activation.

    The configs are adapted to narrow layers, see :func:`fit_groups` and
    :func:`without_standardization`.
    """
    if in_channels // groups * kernel_size**2 == 1:
        conv_cfg = without_standardization(conv_cfg)
    return ConvModule(
        in_channels,
        out_channels,
        kernel_size,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=groups,
        bias=bias,
        conv_cfg=conv_cfg,
        norm_cfg=fit_groups(norm_cfg, out_channels),
        act_cfg=act_cfg,
    )


def without_standardization(conv_cfg: dict | None) -> dict | None:
    """Remove weight standardisation, which gives NaN for filters with a single weight."""
    standardized = conv_cfg and issubclass(layer_class(conv_cfg), STANDARDIZED_CONVS)
    return None if standardized else conv_cfg


def fit_groups(norm_cfg: dict | None, width: int) -> dict | None:
    """Reduce the number of groups of a GroupNorm to a divisor of the width.

    Groups have at least two channels where possible, because a group of one channel is zero on a
    1x1 map.
    """
    if norm_cfg is None or not issubclass(layer_class(norm_cfg), nn.GroupNorm):
        return norm_cfg
    most = min(norm_cfg['num_groups'], max(width // 2, 1))
    return {**norm_cfg, 'num_groups': max(n for n in range(1, most + 1) if width % n == 0)}


def layer_class(cfg: dict) -> type:
    """The class of a layer's config, whose type is a class or a name in mmengine's registry.

    Unknown types give ``object``; mmcv raises an error for them when it builds the layer.
    """
    kind = cfg['type']
    found = kind if isinstance(kind, type) else MODELS.get(kind)
    return found if isinstance(found, type) else object
