"""Small MoD networks of every family for the tests."""

import importlib
from inspect import signature

import pytest
import torch

from mmcnnmod.layers import MoDBlock
from mmcnnmod.toolboxes import is_absent

CONVNEXT = dict(depths=[2, 2, 3, 2], channels=[16, 32, 64, 128])
BN = dict(type='BN')
BASIC_BLOCKS = dict(depth=18, base_channels=16, stem_channels=16)
BOTTLENECKS = {**BASIC_BLOCKS, 'depth': 50, 'zero_init_residual': False, 'norm_eval': False}
# Toolbox, class and settings of a small network.
CASES = {
    'resnet': ('mmpretrain', 'ResNetMoD', BASIC_BLOCKS),
    'resnet-mmseg': ('mmseg', 'ResNetMoD', BOTTLENECKS),
    'resnet-mmdet': ('mmdet', 'ResNetMoD', BOTTLENECKS),
    'resnet-cifar': ('mmpretrain', 'ResNetMoD_CIFAR', BASIC_BLOCKS),
    'mobilenet-v2': ('mmpretrain', 'MobileNetV2MoD', dict(widen_factor=0.5)),
    'mobilenet-v2-l': ('mmpretrain', 'MobileNetV2MoD', dict(arch='large', widen_factor=0.5)),
    'mobilenet-v2-mmseg': ('mmseg', 'MobileNetV2MoD', dict(widen_factor=0.5)),
    'mobilenet-v2-mmdet': ('mmdet', 'MobileNetV2MoD', dict(widen_factor=0.5)),
    'vgg': ('mmpretrain', 'VGGMoD', dict(depth=16)),
    'vgg-bn': ('mmpretrain', 'VGGMoD', dict(depth=19, norm_cfg=BN)),
    'convnext': ('mmpretrain', 'ConvNeXtMoD', dict(arch=CONVNEXT)),
    'convnext-v2': (
        'mmpretrain', 'ConvNeXtMoD', dict(arch=CONVNEXT, use_grn=True, layer_scale_init_value=0.0)
    ),
}  # fmt: skip


class Family:
    """A family in one toolbox."""

    def __init__(self, toolbox, name, settings):
        if is_absent(toolbox):
            pytest.skip(f'{toolbox} is not installed')
        self.mod = getattr(importlib.import_module(f'mmcnnmod.toolboxes.{toolbox}'), name)
        self.dense = self.mod.__bases__[-1]
        self.settings = settings

    def build(self, **options):
        return self.mod(**{**self.settings, **options})

    def takes(self, option):
        """Whether the dense network or one of its base classes has an option."""
        return any(option in signature(c.__init__).parameters for c in self.dense.__mro__)


def evaluating(network):
    """Return the network in eval mode; in some toolboxes ``eval()`` returns None."""
    network.eval()
    return network


def mod_blocks(network):
    return [module for module in network.modules() if isinstance(module, MoDBlock)]


def images(size=64):
    """Four images of different colours, so that no channel is inactive in all of them."""
    return 0.3 * (torch.randn(4, 3, size, size) + torch.randn(4, 3, 1, 1))


def assert_every_mod_parameter_learns(network):
    """Every parameter of every MoD block has a gradient in at least one of the first two steps."""
    network.init_weights()
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    ids = {id(parameter) for block in mod_blocks(network) for parameter in block.parameters()}
    names = {name: p for name, p in network.named_parameters() if id(p) in ids}
    learned = set()
    for _ in range(2):
        optimizer.zero_grad()
        out = network(images())[-1]
        (out * torch.randn_like(out)).mean().backward()
        learned |= {name for name, parameter in names.items() if parameter.grad.any()}
        optimizer.step()
    assert set(names) == learned
