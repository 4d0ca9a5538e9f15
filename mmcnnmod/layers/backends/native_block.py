"""The MoD block as one operator for CPUs, written in C++, for inference in float32.

:class:`MoDBlock` is the definition. Here are the conditions under which the operator computes the
same, and its call; :mod:`native_operator` compiles it.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..channel_selector import ChannelSelector
from ..fusion import Fusion
from .native_operator import build_problem, load_operator
from .native_plan import Plan, arguments_of
from .triton_arguments import NORM_FORWARDS, is_plain

if TYPE_CHECKING:  # mod_block chooses the way, and may choose this one
    from ..mod_block import MoDBlock

MOST_CHANNELS = 64  # of a Conv-Block: beyond, a library's convolutions are faster
PLANS = WeakKeyDictionary()


def is_ready(block: MoDBlock, x: Tensor) -> bool:
    """Whether :func:`why_not` is known to have nothing against it; quicker, and False is no answer.

    Args:
        block (MoDBlock): The block.
        x (Tensor): Its input.
    """
    plan = PLANS.get(block)
    if plan is None or input_problem(x) or (torch.is_grad_enabled() and plan.records(x)):
        return False
    if plan.holds():
        return True
    del PLANS[block]
    return False


def why_not(block: MoDBlock, x: Tensor) -> str | None:
    """Why the operator cannot compute a block's output.

    Args:
        block (MoDBlock): The block.
        x (Tensor): Its input.

    Returns:
        str | None: The reason in one line, the same for all inputs of a kind; None if it can.
    """
    if not is_compiling() and is_ready(block, x):
        return None
    return input_problem(x) or block_problem(block) or weights_problem(block, x) or build_problem()


def forward(block: MoDBlock, x: Tensor, overwrite: bool = False) -> Tensor:
    """A block's output, where :func:`why_not` has nothing against it.

    Args:
        block (MoDBlock): The block, in eval mode.
        x (Tensor): Its input, shape (N, C, H, W), float32.
        overwrite (bool): ``x`` becomes the result; nobody else may need it. Defaults to False.

    Returns:
        Tensor: The fused map, shape (N, C, H, W): ``x``, or a new one laid out as it.
    """
    # A compiler finds out by itself whether the copy is needed.
    fused = x if overwrite else x.clone()
    if is_compiling() or torch._C._len_torch_dispatch_stack():
        torch.ops.mmcnnmod.mod_block_(fused, *arguments_of(block))
        return fused
    plan = PLANS.get(block)
    if plan is None:
        plan = PLANS[block] = Plan(block)
    load_operator()(fused, *plan.arguments)
    return fused


def input_problem(x: Tensor) -> str | None:
    """Why the operator does not take an input, if it does not."""
    if x.device.type != 'cpu':
        return f'the input is on {x.device.type}, not on a CPU'
    if x.dtype != torch.float32:
        return f'the input is {x.dtype}, not float32'
    if not (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)):
        return 'the input is neither contiguous nor channels-last'
    if autocast_is_on():
        return 'autocast is on'
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return 'a global forward hook wants to see every module'
    return None


def block_problem(block: MoDBlock) -> str | None:
    """Why the operator does not do all that the block's modules would do, if it does not."""
    selector, fusion = block.selector, block.fusion
    if type(selector) is not ChannelSelector or selector.order != 'score':
        return 'the selector does not hand on the channels by their scores'
    if type(fusion) is not Fusion or fusion.mode != 'add' or fusion.position == 'original':
        return 'the fusion does not add to the first or the last channels'
    if type(fusion.activation) is not nn.Identity:
        return 'an activation follows the fusion'
    if block.training:
        return 'the block is in training mode'
    return conv_block_problem(block.conv_block) or modules_problem(block)


def conv_block_problem(conv_block: nn.Module) -> str | None:
    """Why the operator does not know a Conv-Block, if it does not."""
    if type(conv_block) is not nn.Sequential or not conv_block:
        return 'the Conv-Block is no sequence of layers'
    layers = list(conv_block)
    for layer in layers:
        problem = layer_problem(layer)
        if problem:
            return problem
    if not all(layer.with_activation for layer in layers[:-1]):
        return 'the Conv-Block has a layer without activation'
    if len({layer.norm.eps for layer in layers if hasattr(layer.norm, 'eps')}) > 1:
        return 'the norms of the Conv-Block differ in eps'
    return None


def layer_problem(layer: nn.Module) -> str | None:
    """Why the operator does not know a layer of a Conv-Block, if it does not."""
    known = type(layer) is ConvModule and layer.order == ('conv', 'norm', 'act')
    if not known or layer.with_explicit_padding or not is_plain(layer.conv):
        return 'the Conv-Block has a layer that is no plain convolution'
    conv, norm = layer.conv, layer.norm
    if conv.kernel_size[0] not in (1, 3):
        return f'the Conv-Block has a convolution of size {conv.kernel_size[0]}, not 1 or 3'
    if max(conv.in_channels, conv.out_channels) > MOST_CHANNELS:
        return f'the Conv-Block is more than {MOST_CHANNELS} channels wide'
    if layer.with_activation and type(layer.activate) is not nn.ReLU:
        return f"the Conv-Block's activation is {type(layer.activate).__name__}, not ReLU"
    if norm is None or type(norm) is nn.Identity:
        return None
    if type(norm).forward not in NORM_FORWARDS or norm.running_mean is None or not norm.affine:
        return (
            f"the Conv-Block's norm is {type(norm).__name__}, not BatchNorm with statistics and "
            'weights'
        )
    return None


def modules_problem(block: MoDBlock) -> str | None:
    """Why the modules of a block cannot be passed over, if they cannot."""
    parts = (block.selector, block.conv_block, block.drop_path)
    for module in chain.from_iterable(part.modules() for part in parts):
        # An identity that replaced a folded norm was perhaps never told.
        if module.training and type(module) is not nn.Identity:
            return 'the block is in training mode'
        if module._forward_hooks or module._forward_pre_hooks or 'forward' in vars(module):
            return "somebody wants to see the calls of one of the block's modules"
    return None


def weights_problem(block: MoDBlock, x: Tensor) -> str | None:
    """Why the weights cannot be read as they are, if they cannot."""
    recorded = torch.is_grad_enabled()
    if recorded and x.requires_grad:
        return 'gradients are wanted'
    for tensor in chain(block.parameters(), block.buffers()):
        if recorded and tensor.requires_grad:
            return 'gradients are wanted'
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            return f'a weight is {tensor.dtype}, not float32'
        if tensor.device != x.device:
            return f'a weight is on {tensor.device}, the input on {x.device}'
    return None


def autocast_is_on() -> bool:
    """Whether convolutions on CPUs are computed in half precision."""
    return torch.is_autocast_enabled('cpu') if NEW_AUTOCAST else torch.is_autocast_cpu_enabled()


OLD_TORCH = not hasattr(torch.compiler, 'is_compiling')
is_compiling = torch._dynamo.is_compiling if OLD_TORCH else torch.compiler.is_compiling
NEW_AUTOCAST = hasattr(torch, 'get_autocast_dtype')  # as old as the device's name as an argument
