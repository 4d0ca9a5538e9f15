"""The Conv-Blocks that process the k selected channels (Section 3.2).

Each is its architecture's own block, k wide: no shortcut and no downsampling inside, because the
fusion is the shortcut and the stride is always 1. The last activation stands here, before the
multiplication with the scores: the paper ends the Conv-Block with that multiplication and passes
the fused map on "without additional adjustments" (Sections 3 and 3.2).
"""

from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import nn

RELU = dict(type='ReLU')
BATCH_NORM = dict(type='BN')


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
    cfgs = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
    return nn.Sequential(
        conv_norm_act(k, k, 3, dilation=dilation, **cfgs),
        conv_norm_act(k, k, 3, **cfgs),
    )


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    dilation: int = 1,
    conv_cfg: dict | None = None,
    norm_cfg: dict = BATCH_NORM,
    act_cfg: dict = RELU,
) -> ConvModule:
    """Shape-preserving convolution, norm and activation whose configs fit narrow widths."""
    if in_channels * kernel_size**2 == 1:
        conv_cfg = without_standardization(conv_cfg)
    return ConvModule(
        in_channels,
        out_channels,
        kernel_size,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        conv_cfg=conv_cfg,
        norm_cfg=fit_groups(norm_cfg, out_channels),
        act_cfg=act_cfg,
    )


def without_standardization(conv_cfg: dict | None) -> dict | None:
    """Weight standardisation divides by the deviation of a filter; of a single weight it is NaN."""
    standardized = conv_cfg is not None and conv_cfg['type'] in ('ConvWS', 'ConvAWS')
    return None if standardized else conv_cfg


def fit_groups(norm_cfg: dict, width: int) -> dict:
    """GroupNorm's groups must divide the width; two channels in each, or a 1x1 map is all zero."""
    if norm_cfg['type'] != 'GN':
        return norm_cfg
    most = min(norm_cfg['num_groups'], max(width // 2, 1))
    return {**norm_cfg, 'num_groups': max(n for n in range(1, most + 1) if width % n == 0)}
