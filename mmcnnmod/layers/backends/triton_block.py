"""The MoD block as four Triton kernels, for inference on CUDA.

:class:`MoDBlock` is the definition and takes some twenty launches; here are the conditions under
which the kernels compute the same, and their launches.
"""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import chain
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..channel_selector import ChannelSelector
from ..fusion import Fusion
from .triton_arguments import NotCoveredError, as_map, conv_layers, flat_stride

if TYPE_CHECKING:  # mod_block chooses the way, and may choose this one
    from ..mod_block import MoDBlock

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MOST_CHANNELS = 2048  # a program holds all of them at once to rank them
MOST_SHARES = 64  # of a map that are pooled apart
LAST_ADDRESS = 2**31 - 1  # within a sample
OLDEST_TRITON = (3, 4)  # kernels take tuples
OLDEST_DEVICE = (8, 0)  # bfloat16
# Triton looks at it when the kernels are imported: they are then run on a CPU, by its interpreter.
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'


def why_not(block: MoDBlock, x: Tensor) -> str | None:
    """Why the kernels cannot compute a block's output.

    Args:
        block (MoDBlock): The block.
        x (Tensor): Its input.

    Returns:
        str | None: The reason in one line, the same for all inputs of a kind; None if they can.
    """
    # First of all, for the compiler must not look any further.
    if not hasattr(torch.compiler, 'is_compiling'):
        return f'PyTorch {torch.__version__} is too old'
    if torch.compiler.is_compiling():
        return 'torch.compile makes kernels of its own'
    try:
        check_input(block, x)
        if device_problem(x.device):
            return device_problem(x.device)
        check_modules(block)
        check_tensors(block, x)
        conv_layers(block.conv_block)
    except NotCoveredError as reason:
        return str(reason)
    return None


def check_input(block: MoDBlock, x: Tensor) -> None:
    """Raise NotCoveredError unless the kernels can read the input."""
    if x.device.type != 'cuda' and not (INTERPRETED and x.device.type == 'cpu'):
        raise NotCoveredError(f'the input is on {x.device.type}, not on CUDA')
    if type(x) is not Tensor or torch.jit.is_tracing():
        raise NotCoveredError(f'the network is being traced (the input is a {type(x).__name__})')
    try:
        x.data_ptr()
    except RuntimeError:
        raise NotCoveredError('the input has no memory: torch.func is looking') from None
    if x.dtype not in DTYPES:
        raise NotCoveredError(f'the input is {x.dtype}; covered are float32, float16, bfloat16')
    if x.dim() != 4 or x.shape[1] != block.in_channels or x.numel() == 0:
        raise NotCoveredError("the input is empty or no map of the block's width")
    sizes = list(zip(x.shape, x.stride(), strict=True))
    if any(stride == 0 for size, stride in sizes if size > 1):
        raise NotCoveredError('the input has the stride 0: it is an expanded tensor')
    if sum((size - 1) * stride for size, stride in sizes[1:]) > LAST_ADDRESS:
        raise NotCoveredError('a sample of the input is too large for 32-bit addresses')
    flat_stride(x)


@lru_cache(None)
def device_problem(device: torch.device) -> str | None:
    """Why there are no kernels for a device, if there are none."""
    try:
        import triton
    except ImportError as problem:
        return f'Triton cannot be imported: {problem}'
    if tuple(int(number) for number in triton.__version__.split('.')[:2]) < OLDEST_TRITON:
        return f'Triton {triton.__version__} is too old'
    if device.type == 'cuda' and torch.version.cuda is None:
        return 'the kernels were made for CUDA, not for ROCm'
    if device.type == 'cuda' and torch.cuda.get_device_capability(device) < OLDEST_DEVICE:
        return f'{torch.cuda.get_device_name(device)} is too old'
    return None


def check_modules(block: MoDBlock) -> None:
    """Raise NotCoveredError unless the kernels do all that the block's modules would do."""
    if type(block.selector) is not ChannelSelector or type(block.fusion) is not Fusion:
        raise NotCoveredError(f'the selector is a {type(block.selector).__name__}')
    if block.in_channels > MOST_CHANNELS:
        raise NotCoveredError(f'the map is {block.in_channels} channels wide, not {MOST_CHANNELS}')
    if type(block.fusion.activation) not in (nn.Identity, nn.ReLU):
        name = type(block.fusion.activation).__name__
        raise NotCoveredError(f"the fusion's activation is {name}, not ReLU")
    hooks = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks)
    for module in block.modules():
        # An identity that replaced a folded norm was perhaps never told.
        if module.training and type(module) is not nn.Identity:
            raise NotCoveredError('the block is in training mode')
        if module is not block:  # its own hooks are called by whoever calls it
            hooks += (module._forward_hooks, module._forward_pre_hooks)
    if any(hooks):
        raise NotCoveredError("a forward hook wants to see one of the block's modules")


def check_tensors(block: MoDBlock, x: Tensor) -> None:
    """Raise NotCoveredError unless the weights can be read, and no gradients are wanted."""
    for tensor in chain([x], block.parameters(), block.buffers()):
        if tensor.requires_grad and torch.is_grad_enabled():
            raise NotCoveredError('gradients are wanted')
        if tensor.device != x.device:
            raise NotCoveredError(f'a weight is on {tensor.device}, the input on {x.device}')
        if tensor.is_floating_point() and tensor.dtype not in DTYPES:
            raise NotCoveredError(f'a weight is {tensor.dtype}')
    if not all(fc.weight.is_contiguous() for fc in (block.selector.fc1, block.selector.fc2)):
        raise NotCoveredError("the selector's weights are not contiguous")


def forward(block: MoDBlock, x: Tensor, overwrite: bool = False) -> Tensor:
    """A block's output, where :func:`why_not` has nothing against it.

    Nothing waits for the device and no shape depends on data, so that a CUDA graph can record it,
    once it has run at that shape: Triton compiles at the first call.

    Args:
        block (MoDBlock): The block, in eval mode.
        x (Tensor): Its input, shape (N, C, H, W).
        overwrite (bool): ``x`` becomes the result; nobody else may need it. Defaults to False.

    Returns:
        Tensor: The fused map, shape (N, C, H, W): ``x``, or a new one laid out as ``x.clone()``.
    """
    fused = x if overwrite else torch.empty_like(x)
    with torch.cuda.device_of(x):
        index, scores = launch_selector(block.selector, x, None if overwrite else fused)
        launch_conv_block(block, x, fused, index, scores)
    if overwrite and not x.is_inference():
        torch.autograd.graph.increment_version(x)  # as every operation in place does
    return fused


def launch_selector(
    selector: ChannelSelector, x: Tensor, copy: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Pool and select; on the way copy the map, which pooling reads in any case.

    Args:
        selector (ChannelSelector): The selector.
        x (Tensor): Shape (N, C, H, W).
        copy (Tensor, optional): Becomes equal to ``x``.

    Returns:
        tuple[Tensor, Tensor]: Channel indices, int32, and their scores, float32, both (N, k).
    """
    kernels = load_kernels()
    n, channels, height, width = x.shape
    k, pixels, hidden = selector.k, height * width, selector.fc1.out_features
    block_p, block_c = pooling_tile(x)
    # By the map's size alone, so that a sample's result does not depend on its batch.
    share = 256 * power_of_2(ceil_div(pixels, 256 * MOST_SHARES))
    shares = ceil_div(pixels, share)
    sums = x.new_empty((n, shares, channels), dtype=torch.float32)
    kernels.pool[n * shares, ceil_div(channels, block_c)](
        as_map(x), sums, as_map(x if copy is None else copy), channels, pixels, shares,
        COPY=copy is not None, STEPS=min(share, power_of_2(pixels)) // block_p,
        BLOCK_P=block_p, BLOCK_C=block_c,
    )  # fmt: skip
    index = x.new_empty((n, k), dtype=torch.int32)
    scores = x.new_empty((n, k), dtype=torch.float32)
    block_c = power_of_2(channels)
    kernels.select[n,](
        sums, selector.fc1.weight, selector.fc2.weight, index, scores,
        channels, pixels, shares, K=k, HIDDEN=hidden, MOST_SHARES=power_of_2(shares),
        BY_INDEX=selector.order == 'index',
        BLOCK_C=block_c, BLOCK_H=min(power_of_2(hidden), max(4, 4096 // block_c)), num_warps=8,
    )  # fmt: skip
    return index, scores


def launch_conv_block(
    block: MoDBlock, x: Tensor, fused: Tensor, index: Tensor, scores: Tensor
) -> None:
    """Route, process, weight, fuse.

    Args:
        block (MoDBlock): The block.
        x (Tensor): Its input, shape (N, C, H, W).
        fused (Tensor): Its output, equal to ``x`` so far, or ``x`` itself.
        index (Tensor): The channels, shape (N, k), int32.
        scores (Tensor): Their scores, shape (N, k), float32.
    """
    kernels = load_kernels()
    n, _, height, width = x.shape
    k, fusion = block.k, block.fusion
    first, spatial, last = conv_layers(block.conv_block)
    middle = first.weight.shape[0]
    narrow = x.new_empty((n, middle, height, width))
    block_m, block_k = power_of_2(middle), power_of_2(k)
    # A bottleneck's program holds all products of the last 1x1 convolution at once.
    block_p = min(64, 8192 // (block_m * block_k if last else block_k))
    grid = (n * ceil_div(height * width, block_p),)
    kernels.enter[grid](
        as_map(x), index, first, narrow, height, width,
        K=k, WIDTH=middle, SIZE=first.weight.shape[-1], BLOCK_P=block_p, BLOCK_O=block_m,
    )  # fmt: skip
    kernels.leave[grid](
        as_map(x), as_map(fused), index, scores, as_map(narrow), spatial, last,
        block.in_channels - k if fusion.position == 'last' else 0, height, width,
        K=k, WIDTH=middle, BOTTLENECK=last is not None, ADD=fusion.mode == 'add',
        ORIGINAL=fusion.position == 'original',
        RELU_BEFORE=block.conv_block[-1].with_activation,
        RELU_AFTER=isinstance(fusion.activation, nn.ReLU),
        BLOCK_P=block_p, BLOCK_M=block_m, BLOCK_K=block_k,
    )  # fmt: skip


def load_kernels() -> ModuleType:
    """The kernels, imported late, for they need Triton."""
    from . import triton_kernels

    return triton_kernels


def pooling_tile(x: Tensor) -> tuple[int, int]:
    """Pixels and channels of a tile: at most 2048 elements, long where the map is contiguous."""
    channels, pixels = power_of_2(x.shape[1]), power_of_2(x.shape[2] * x.shape[3])
    if x.stride(1) == 1:
        return min(pixels, 32), min(channels, 64)
    block_p = min(pixels, 256)
    return block_p, min(channels, 2048 // block_p)


def power_of_2(number: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << (number - 1).bit_length()


def ceil_div(number: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-number // divisor)
