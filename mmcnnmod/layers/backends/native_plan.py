"""What the native operator is called with for a block, and whether that still holds."""

from __future__ import annotations

from operator import is_, itemgetter

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from ..channel_selector import ChannelSelector
from ..fusion import Fusion

HOOKS = ('_forward_hooks', '_forward_pre_hooks')
# What a module of a kind computes hangs on these attributes, and on its tensors.
OPTIONS = {
    ChannelSelector: ('order', 'k'),
    Fusion: ('position', 'mode'),
    ConvModule: ('order', 'with_explicit_padding', 'with_activation'),
    nn.Conv2d: ('stride', 'padding', 'dilation', 'groups', 'padding_mode'),
    nn.modules.batchnorm._BatchNorm: ('training', 'eps'),
}


class Plan:
    """A block as it was found when all its modules were looked at.

    Between the convolutions of a network, looking at them takes longer than the operator: every
    object comes from memory. So that is done once. Later a few passes over the modules'
    dictionaries tell whether a module, tensor, hook, class or option has been replaced since.

    Args:
        block (MoDBlock): One that the operator covers.
    """

    def __init__(self, block: nn.Module) -> None:
        parts = (block.selector, block.fusion, block.conv_block, block.drop_path)
        modules = [block, *(module for part in parts for module in part.modules())]
        # Not the block itself: it would never be freed.
        self.modules, self.states = modules[1:], [vars(module) for module in modules]
        self.hooks = [state[kind] for state in self.states for kind in HOOKS]
        self.children = [state['_modules'] for state in self.states if state['_modules']]
        self.options = [(itemgetter('training'), self.states[0])]
        for module, state in zip(modules, self.states, strict=True):
            names = next((OPTIONS[kind] for kind in OPTIONS if isinstance(module, kind)), None)
            if names:
                self.options.append((itemgetter(*names), state))
        self.places = places_of(block)
        self.found = self.look()
        self.tensors = self.read()
        self.arguments = arguments_of(block)

    def look(self) -> tuple:
        """The block as it is now, but for tensors and hooks."""
        return (
            [get(state) for get, state in self.options],
            [[*children.values()] for children in self.children],
            [*map(len, self.states)],  # a `forward` of its own is one attribute more
            [*map(type, self.modules)],
        )

    def read(self) -> list[Tensor | None]:
        """The tensors that the block has now."""
        return [tensors[name] for tensors, name in self.places]

    def holds(self) -> bool:
        """Whether nothing that matters has been replaced and nobody looks on."""
        try:
            same = all(map(is_, self.read(), self.tensors))
        except KeyError:  # a tensor is gone
            return False
        return same and not any(self.hooks) and self.look() == self.found and self.is_float32()

    def is_float32(self) -> bool:
        """Whether all tensors still are: ``half()`` changes them without replacing them."""
        return {tensor.dtype for tensor in self.tensors if tensor is not None} == {torch.float32}

    def records(self, x: Tensor) -> bool:
        """Whether autograd would record the block on an input."""
        return any(tensor is not None and tensor.requires_grad for tensor in (x, *self.tensors))


def places_of(block: nn.Module) -> list[tuple[dict, str]]:
    """Where the tensors of a block stand."""
    return [
        (tensors, name)
        for part in (block.selector, block.conv_block)
        for module in part.modules()
        for tensors in (module._parameters, module._buffers)
        for name in tensors
        if name != 'num_batches_tracked'
    ]


def arguments_of(block: nn.Module) -> tuple:
    """What the operator is called with, after the map; the tensors are the modules' own."""
    selector, layers = block.selector, list(block.conv_block)
    return (
        selector.fc1.weight,
        selector.fc2.weight,
        [tensor for layer in layers for tensor in tensors_of(layer)],
        [layer.conv.dilation[0] for layer in layers],
        next((layer.norm.eps for layer in layers if hasattr(layer.norm, 'eps')), 0.0),
        layers[-1].with_activation,
        block.fusion.position == 'last',
    )


def tensors_of(layer: ConvModule) -> list[Tensor]:
    """A layer's tensors: the weight; a bias if there is one; four of the norm if there is one."""
    conv, norm = layer.conv, layer.norm
    tensors = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
    # An identity stands where a norm was folded into its convolution.
    if norm is None or type(norm) is nn.Identity:
        return tensors
    return [*tensors, norm.weight, norm.bias, norm.running_mean, norm.running_var]
