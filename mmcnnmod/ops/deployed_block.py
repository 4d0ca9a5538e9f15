"""The deployed MoD block, which ``switch_to_deploy`` puts in place of an MoD block."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks import DropPath
from mmengine.logging import print_log
from torch import Tensor, nn

from ..layers import ChannelSelector, Fusion, MoDBlock
from .folding import fold_batch_norms
from .operator import operator_problem

MAX_CHANNELS = 64  # of a Conv-Block: wider convolutions are faster in torch
CUDA_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
NUMBERS_PER_LAYER = 5  # channels in and out, kernel size, dilation, ReLU
# Before torch 2.4, torch.compile cannot call the operator.
OLD_TORCH = not hasattr(torch.library, 'register_fake')
is_compiling = torch._dynamo.is_compiling if OLD_TORCH else torch.compiler.is_compiling


class DeployedMoDBlock(nn.Module):
    """An MoD block for inference that overwrites its input, as ``nn.ReLU(inplace=True)`` does.

    It runs as one operator: in C++ on a CPU in float32, in Triton on CUDA. If the operator does not
    support the block or its input, the MoD block itself runs, with an in-place fusion. While the
    network is traced or exported, or if gradients are recorded, the MoD block runs and nothing is
    overwritten. torch.compile keeps the operator.

    The operator has its own copy of the weights. Weights that are changed and hooks that are added
    later do not affect it.

    Args:
        block (MoDBlock): The block. It becomes a child of the deployed block, in eval mode.
        inplace (bool): Whether the input may be overwritten, because nothing else reads it.
            Subclasses of :class:`MoDBlock` and blocks with another fusion are never computed in
            place. Defaults to True.

    Attributes:
        problem (str | None): Why the operator is not used on the block's device, in one line.
    """

    def __init__(self, block: MoDBlock, inplace: bool = True) -> None:
        super().__init__()
        self.block = block
        fold_batch_norms(block.conv_block)
        self.eval()
        self.reason = unsupported_reason(block)
        weights = None
        if self.reason is None:
            weights, self.hidden, self.layers = packed_weights(block)
        # Not saved in state dicts, because it is a copy.
        self.register_buffer('weights', weights, persistent=False)
        self.problem = self.find_problem()
        fusion = block.fusion
        # Other code might read the input after the fusion.
        is_known = type(block) is MoDBlock and type(fusion) is Fusion
        self.inplace = inplace and is_known and not is_hooked(block, fusion)
        if self.inplace:
            block.fusion = InplaceFusion(
                fusion.in_channels, fusion.k, fusion.position, fusion.mode
            ).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Process k channels of the map.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W).

        Returns:
            Tensor: The fused map, shape (N, C, H, W): ``x`` itself if the block works in place.
        """
        if not self.is_supported(x):
            return self.block(x)
        fused = x if self.inplace else x.clone()
        last = self.block.fusion.position == 'last'
        torch.ops.mmcnnmod.mod_block_(fused, self.weights, self.hidden, self.layers, last)
        return fused

    def is_supported(self, x: Tensor) -> bool:
        """Whether the operator can compute this map; called in every forward."""
        return (
            self.problem is None
            and not is_traced(x)
            and x.device == self.weights.device
            and self.supports_dtype(x)
            and x.shape[1:-2] == (self.block.in_channels,)
            and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
            and not self.records_gradients(x)
        )

    def supports_dtype(self, x: Tensor) -> bool:
        """Whether the operator supports the dtype of this map."""
        if x.device.type == 'cuda':
            return x.dtype in CUDA_DTYPES
        return x.dtype == self.weights.dtype == torch.float32 and not is_cpu_autocast_enabled()

    def records_gradients(self, x: Tensor) -> bool:
        """Whether gradients are recorded, which the operator does not support."""
        return torch.is_grad_enabled() and (
            x.requires_grad or any(parameter.requires_grad for parameter in self.parameters())
        )

    def find_problem(self) -> str | None:
        """Why the operator cannot be used for this block on its device; None if it can."""
        if self.reason is not None or self.weights.device.type == 'meta':
            return self.reason
        device = self.weights.device.type
        if device == 'cuda' and len(self.layers) == NUMBERS_PER_LAYER:
            return 'a single convolution cannot be computed in place on a GPU'
        return operator_problem(device)

    def update_problem(self) -> None:
        """Look for the operator again, after a move to another device or process."""
        before, self.problem = self.problem, self.find_problem()
        if self.problem and before is None:
            log_once(f'MoD blocks run in plain PyTorch, without the operator: {self.problem}')

    def _apply(self, *arguments, **options) -> DeployedMoDBlock:
        """Implements ``to``, ``half`` and the like."""
        super()._apply(*arguments, **options)
        self.update_problem()
        return self

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self.update_problem()

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f'inplace={self.inplace}, problem={self.problem!r}'


class InplaceFusion(Fusion):
    """A fusion that overwrites its input, unless it is traced or gradients are recorded."""

    def forward(self, x: Tensor, processed: Tensor, index: Tensor) -> Tensor:
        """Fuse as :class:`Fusion` does; returns ``x`` itself."""
        if is_compiling() or is_traced(x):  # before the next condition, which fx cannot trace
            return super().forward(x, processed, index)
        if torch.is_grad_enabled() and (x.requires_grad or processed.requires_grad):
            return super().forward(x, processed, index)
        processed = processed.to(x.dtype)
        if self.position == 'original':
            target_index = index[:, :, None, None].expand_as(processed)
            scatter = x.scatter_ if self.mode == 'replace' else x.scatter_add_
            return scatter(1, target_index, processed)
        start = 0 if self.position == 'first' else self.in_channels - self.k
        channels = x.narrow(1, start, self.k)
        channels.copy_(processed) if self.mode == 'replace' else channels.add_(processed)
        return x


def unsupported_reason(block: MoDBlock) -> str | None:
    """Why the operator does not support a block, in one line; None if it does."""
    selector, fusion, layers = block.selector, block.fusion, list(block.conv_block.children())
    if is_hooked(*block.modules()):
        return 'a hook or a wrapper within the block would not be called'
    if type(block) is not MoDBlock or type(block.conv_block) is not nn.Sequential or not layers:
        return 'the block is not one of this package'
    if type(fusion) is not Fusion or fusion.mode != 'add' or fusion.position == 'original':
        return 'its fusion does not add to the first or the last channels'
    if type(selector) is not ChannelSelector:
        return 'it has no channel selector'
    parts = (selector.pool, selector.fc1, selector.relu, selector.fc2)
    known = (nn.AdaptiveAvgPool2d, nn.Linear, nn.ReLU, nn.Linear)
    if tuple(map(type, parts)) != known or any(fc.bias is not None for fc in parts[1::2]):
        return 'a part of its selector has been replaced'
    if type(block.drop_path) not in (nn.Identity, DropPath):
        return f'it has a {type(block.drop_path).__name__} after the Conv-Block'
    for layer in layers:
        reason = unsupported_layer(layer, last=layer is layers[-1])
        if reason:
            return reason
    return None


def unsupported_layer(layer: nn.Module, last: bool) -> str | None:
    """Why the operator does not support a layer of a Conv-Block; None if it does."""
    if type(layer) is not ConvModule or layer.order != ('conv', 'norm', 'act'):
        return f'its Conv-Block has a {type(layer).__name__}'
    conv = layer.conv
    size, dilation = conv.kernel_size[0], conv.dilation[0]
    known = dict(
        kernel_size=(size, size),
        dilation=(dilation, dilation),
        padding=(dilation * (size // 2),) * 2,
        padding_mode='zeros',
        stride=(1, 1),
        groups=1,
    )
    same = type(conv) is nn.Conv2d and all(getattr(conv, key) == known[key] for key in known)
    if not same or size not in (1, 3) or layer.with_explicit_padding:
        return 'its Conv-Block has a convolution that is not 1x1 or 3x3, of stride 1 and one group'
    if max(conv.in_channels, conv.out_channels) > MAX_CHANNELS:
        return f'its Conv-Block is more than {MAX_CHANNELS} channels wide'
    if layer.with_norm and type(layer.norm) is not nn.Identity:
        return f'its {type(layer.norm).__name__} cannot be folded'
    activation = type(layer.activate) if layer.with_activation else None
    if activation not in ((nn.ReLU, None) if last else (nn.ReLU,)):
        return f'its activation is {getattr(activation, "__name__", "missing")}, not ReLU'
    return None


def is_hooked(*modules: nn.Module) -> bool:
    """Whether one of the modules has a forward hook or a wrapped ``forward``."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or 'forward' in vars(module)
        for module in modules
    )


def packed_weights(block: MoDBlock) -> tuple[Tensor, int, list[int]]:
    """The operator's arguments: all weights, the selector's hidden width, and the layers.

    Each layer of the Conv-Block is described by NUMBERS_PER_LAYER numbers. The weights are one
    tensor, because torch takes longer to pass a list of tensors than the operator to compute.
    """
    fc1, fc2 = block.selector.fc1, block.selector.fc2
    tensors, numbers = [fc1.weight, fc2.weight], []
    for layer in block.conv_block:
        conv = layer.conv
        bias = conv.bias if conv.bias is not None else conv.weight.new_zeros(conv.out_channels)
        tensors += [conv.weight, bias]
        numbers += [conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.dilation[0]]
        numbers.append(int(layer.with_activation))
    flat = [tensor.detach().contiguous().flatten() for tensor in tensors]
    return torch.cat(flat), fc1.out_features, numbers


def is_traced(x: Tensor) -> bool:
    """Whether a tracer, an exporter or a function transform is active.

    torch.compile counts only before torch 2.4.
    """
    if is_compiling():
        return OLD_TORCH or not torch.compiler.is_dynamo_compiling() or is_exporting()
    return (
        type(x) is not Tensor
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._len_torch_dispatch_stack() > 0
    )


# A constant for torch.compile: within a graph, torch's own function always returns True.
@torch.compiler.assume_constant_result
def is_exporting() -> bool:
    """Whether torch.export traces; older torch cannot tell it from torch.compile."""
    return getattr(torch.compiler, 'is_exporting', bool)()


def is_cpu_autocast_enabled() -> bool:
    """Whether autocast is enabled on CPUs."""
    if hasattr(torch, 'get_autocast_dtype'):  # as new as the argument
        return torch.is_autocast_enabled('cpu')
    return torch.is_autocast_cpu_enabled()


@lru_cache(None)
def log_once(message: str, level: int = logging.INFO) -> None:
    """Log a message once in a process."""
    print_log(message, logger='current', level=level)
