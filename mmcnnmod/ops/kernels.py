"""The operator of deployed MoD blocks on CUDA, in Triton: seven launches for a bottleneck.

``pool``, ``linear`` twice, ``rank``, then ``convolve`` for each layer. The first layer gathers the
selected channels from the map, the last one multiplies by the scores and adds to the map. The
results between layers are in small buffers, so that the fusion can be in place: no 3x3 convolution
reads the map while other programs write to it. All arithmetic is in float32.

BLOCK_* are powers of two: how many elements of an axis a program holds at once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .deployed_block import NUMBERS_PER_LAYER

SHARE = 128  # pixels that one program pools; more in large maps, which have at most 32 shares


def mod_block_(x: Tensor, weights: Tensor, hidden: int, layers: list[int], last: bool) -> None:
    """Run an MoD block in place.

    A CUDA graph can record it, because nothing waits for the device and no shape depends on data.
    Run it once at the same shape before, because Triton compiles at the first call.

    Args:
        x (Tensor): Feature map of shape (N, C, H, W), contiguous or channels-last, of any floating
            dtype.
        weights (Tensor): All weights, see ``packed_weights`` in deployed_block.py.
        hidden (int): Width of the selector's hidden layer.
        layers (list[int]): Five numbers for each of at least two layers: channels in and out,
            kernel size, dilation, whether a ReLU follows.
        last (bool): Whether to add to the last k channels instead of the first.
    """
    n, channels, height, width = x.shape
    if x.numel() == 0:
        return
    pixels = height * width
    strides = (pixels, 1) if x.is_contiguous() else (1, channels)  # of channels and pixels
    step = NUMBERS_PER_LAYER
    layers = [layers[i : i + step] for i in range(0, len(layers), step)]
    k = layers[0][0]
    with torch.cuda.device_of(x):
        index, scores = select(x, strides, weights, hidden, k)
        offset, narrow = 2 * hidden * channels, None
        for i, (inputs, outputs, size, dilation, relu) in enumerate(layers):
            is_first, is_last = i == 0, i == len(layers) - 1
            result = None if is_last else empty(x, n, pixels, outputs)
            block_i, block_o = power_of_2(inputs), power_of_2(outputs)
            # Few pixels in small maps, so that there are enough programs for the whole GPU. Fewer
            # than 16 if there are 16 or more channels: Triton would multiply such blocks in tf32.
            most = 8 if min(block_i, block_o) >= 16 else 64
            block_p = max(4, min(most, 4096 // (block_i * block_o), power_of_2(pixels) // 16))
            convolve[(n * triton.cdiv(pixels, block_p),)](
                x, narrow, result, index, scores, weights, offset,
                channels * pixels, *strides, channels - k if last else 0, height, width, dilation,
                GATHER=is_first, FUSE=is_last, RELU=bool(relu),
                INPUTS=inputs, OUTPUTS=outputs, SIZE=size,
                BLOCK_P=block_p, BLOCK_I=block_i, BLOCK_O=block_o,
            )  # fmt: skip
            offset += outputs * (inputs * size * size + 1)
            narrow = result


def select(
    x: Tensor, strides: tuple[int, int], weights: Tensor, hidden: int, k: int
) -> tuple[Tensor, Tensor]:
    """Launch the selector; returns channel indices, int32, and scores, float32, both (N, k)."""
    n, channels, height, width = x.shape
    pixels = height * width
    share = max(SHARE, power_of_2(triton.cdiv(pixels, 32)))
    shares = triton.cdiv(pixels, share)
    # The longer axis of a block is the one that is contiguous in memory.
    block_p, block_c = (SHARE, 16) if strides[1] == 1 else (32, 64)
    sums = empty(x, n, shares, channels)
    pool[(n * shares, triton.cdiv(channels, block_c))](
        x, sums, channels * pixels, *strides, channels, pixels, shares,
        SHARE=share, BLOCK_P=block_p, BLOCK_C=block_c,
    )  # fmt: skip
    units, logits = empty(x, n, hidden), empty(x, n, channels)
    block_n = min(power_of_2(n), 16)
    block_o = 16 if block_n == 16 else 4
    for source, offset, target, parts, scale in (
        (sums, 0, units, shares, 1 / pixels),
        (units, hidden * channels, logits, 1, 1.0),
    ):
        inputs, outputs = source.shape[-1], target.shape[-1]
        linear[(triton.cdiv(n, block_n), triton.cdiv(outputs, block_o))](
            source, weights, offset, target, n, parts, scale,
            RELU=target is units, MAX_PARTS=power_of_2(parts), INPUTS=inputs, OUTPUTS=outputs,
            BLOCK_N=block_n, BLOCK_O=block_o,
            BLOCK_I=64 if block_n == 16 else min(power_of_2(inputs), 1024 // block_n),
        )  # fmt: skip
    index, scores = empty(x, n, k, dtype=torch.int32), empty(x, n, k)
    rank[(n,)](logits, index, scores, CHANNELS=channels, K=k, BLOCK_C=power_of_2(channels))
    return index, scores


def empty(x: Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An uninitialised tensor on the map's device."""
    return torch.empty(shape, dtype=dtype, device=x.device)


def power_of_2(number: int) -> int:
    """The smallest power of two that is at least this number."""
    return 1 << (number - 1).bit_length()


@triton.jit
def pool(
    x, sums, sample_stride, channel_stride, pixel_stride, channels, pixels, shares,
    SHARE: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sum each channel over each share of the map; ``sums`` has shape (N, shares, C)."""
    row = tl.program_id(0).to(tl.int64)
    sample = row // shares
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for step in range(SHARE // BLOCK_P):
        pixel = tl.program_id(0) % shares * SHARE + step * BLOCK_P + tl.arange(0, BLOCK_P)
        inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
        address = channel[None, :] * channel_stride + pixel[:, None] * pixel_stride
        total += tl.load(x + sample * sample_stride + address, inside, other=0).to(tl.float32)
    tl.store(sums + row * channels + channel, tl.sum(total, 0), channel < channels)


@triton.jit
def linear(
    source, weights, offset, target, n, parts, scale,
    RELU: tl.constexpr, MAX_PARTS: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Apply a linear layer to ``scale`` times the sum of the parts of ``source``.

    ``source`` has shape (N, parts, INPUTS). The layer's weight, shape (OUTPUTS, INPUTS), begins at
    ``offset`` in ``weights``.
    """
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    out = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    total = tl.zeros([BLOCK_N, BLOCK_O], tl.float32)
    for start in range(0, INPUTS, BLOCK_I):
        into = start + tl.arange(0, BLOCK_I)
        inside = (row < n)[:, None] & (into < INPUTS)[None, :]
        values = tl.zeros([BLOCK_N, BLOCK_I], tl.float32)
        for part in tl.static_range(MAX_PARTS):  # unrolled: loads overlap
            address = (row[:, None] * parts + part) * INPUTS + into[None, :]
            values += tl.load(source + address, inside & (part < parts), other=0)
        inside = (out < OUTPUTS)[:, None] & (into < INPUTS)[None, :]
        address = offset + out[:, None] * INPUTS + into[None, :]
        weight = tl.load(weights + address, inside, other=0).to(tl.float32)
        if BLOCK_N == 16:
            total = tl.dot(values, tl.trans(weight), total, input_precision='ieee')
        else:
            total += tl.sum(values[:, None, :] * weight[None, :, :], 2)
    total *= scale
    if RELU:
        total = relu(total)
    inside = (row < n)[:, None] & (out < OUTPUTS)[None, :]
    tl.store(target + row[:, None] * OUTPUTS + out[None, :], total, inside)


@triton.jit
def rank(logits, index, scores, CHANNELS: tl.constexpr, K: tl.constexpr, BLOCK_C: tl.constexpr):
    """Find the K channels of a sample with the highest logits, in descending order.

    If logits are equal, the lower channel comes first. NaN ranks highest, as in ``torch.topk``.
    """
    sample = tl.program_id(0)
    channel = tl.arange(0, BLOCK_C)
    real = channel < CHANNELS
    logit = tl.load(logits + sample * CHANNELS + channel, real, other=0)
    # Logit and channel in one integer: a single maximum finds both, and no two are equal.
    key = ascending(logit).to(tl.int64) * BLOCK_C + (BLOCK_C - 1 - channel)
    key = tl.where(real, key, -9223372036854775808)
    slot = tl.full([BLOCK_C], K, tl.int32)
    for i in range(K):
        best = key == tl.max(key, 0)
        slot = tl.where(best, i, slot)
        key = tl.where(best, -9223372036854775808, key)
    selected = slot < K
    tl.store(index + sample * K + slot, channel, selected)
    tl.store(scores + sample * K + slot, tl.sigmoid(logit), selected)


@triton.jit
def convolve(
    x, narrow, result, index, scores, weights, offset,
    sample_stride, channel_stride, pixel_stride, start, height, width, dilation,
    GATHER: tl.constexpr, FUSE: tl.constexpr, RELU: tl.constexpr,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, SIZE: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """Apply a layer of the Conv-Block at BLOCK_P pixels.

    It reads the selected channels of ``x`` if GATHER, else ``narrow``, shape (N, H * W, INPUTS). It
    multiplies by the scores and adds to the channels of ``x`` from ``start`` on if FUSE, else it
    writes ``result``, shape (N, H * W, OUTPUTS). Its weight, shape (OUTPUTS, INPUTS, SIZE, SIZE),
    begins at ``offset`` in ``weights``; the bias follows.
    """
    pixels = height * width
    tiles = tl.cdiv(pixels, BLOCK_P)
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = tl.program_id(0) % tiles * BLOCK_P + tl.arange(0, BLOCK_P)
    into = tl.arange(0, BLOCK_I)
    out = tl.arange(0, BLOCK_O)
    x += sample * sample_stride
    if GATHER:
        selected = tl.load(index + sample * INPUTS + into, into < INPUTS, other=0)
    total = tl.zeros([BLOCK_P, BLOCK_O], tl.float32)
    for tap in tl.static_range(SIZE * SIZE):
        down = pixel // width + (tap // SIZE - SIZE // 2) * dilation
        right = pixel % width + (tap % SIZE - SIZE // 2) * dilation
        inside = (pixel < pixels) & (down >= 0) & (down < height) & (right >= 0) & (right < width)
        inside = inside[:, None] & (into < INPUTS)[None, :]
        source = (down * width + right)[:, None]
        if GATHER:
            address = x + selected[None, :] * channel_stride + source * pixel_stride
        else:
            address = narrow + sample * pixels * INPUTS + source * INPUTS + into[None, :]
        values = tl.load(address, inside, other=0).to(tl.float32)
        address = offset + (out[None, :] * INPUTS + into[:, None]) * SIZE * SIZE + tap
        inside = (into < INPUTS)[:, None] & (out < OUTPUTS)[None, :]
        weight = tl.load(weights + address, inside, other=0).to(tl.float32)
        total += tl.sum(values[:, :, None] * weight[None, :, :], 1)
    bias = weights + offset + OUTPUTS * INPUTS * SIZE * SIZE
    total += tl.load(bias + out, out < OUTPUTS, other=0).to(tl.float32)[None, :]
    if RELU:
        total = relu(total)
    inside = (pixel < pixels)[:, None] & (out < OUTPUTS)[None, :]
    if FUSE:
        total *= tl.load(scores + sample * OUTPUTS + out, out < OUTPUTS, other=0)[None, :]
        address = x + (start + out)[None, :] * channel_stride + pixel[:, None] * pixel_stride
        total += tl.load(address, inside, other=0).to(tl.float32)
        tl.store(address, total.to(x.dtype.element_ty), inside)
    else:
        address = result + (sample * pixels + pixel[:, None]) * OUTPUTS + out[None, :]
        tl.store(address, total, inside)


@triton.jit
def relu(x):
    """ReLU that keeps NaN, as torch's does."""
    return tl.where(x < 0, 0, x)


@triton.jit
def ascending(x):
    """Map float32 to int32 in the same order; NaN is the largest, -0 equals 0."""
    bits = tl.where(x == 0, 0.0, x).to(tl.int32, bitcast=True)
    bits = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return tl.where(x != x, 0x7FFFFFFF, bits)
