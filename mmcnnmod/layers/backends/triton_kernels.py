"""The kernels behind :mod:`triton_block`: an MoD block in four launches.

``pool`` -> ``select`` -> ``enter`` -> ``leave``. The Conv-Block is cut where its map is narrow:
``enter`` gathers the k channels and runs the first convolution, ``leave`` runs the rest, weights
and fuses. So a 3x3 convolution finds its halo in memory, zero outside the map, and ``leave`` reads
of the wide map only what the same program then writes: the fusion may be in place.

All arithmetic is float32, whatever the map's dtype; a value is rounded when it is stored. Norms
are applied to the sums of the convolutions, from the modules' own tensors: there is no folded copy
of the weights that could go stale.

Loops have constant bounds, powers of two where they depend on the map's size: few variants are
compiled, and Triton's interpreter takes no other bounds from numpy 2.4 on.

``Map`` and ``Layer`` are the tuples of :mod:`triton_arguments`. BLOCK_* are powers of two: how many
channels (C), hidden units (H), pixels (P), outputs of a convolution (O) a program holds at once.
"""

import triton
import triton.language as tl


@triton.jit
def pool(
    x,
    sums,
    copy,
    channels,
    pixels,
    shares,
    COPY: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Sum every channel over shares of the map, in a fixed order; on the way copy the map.

    A share is STEPS * BLOCK_P pixels. ``sums``: (N, shares, channels), float32. ``copy``: a Map.
    """
    sample = (tl.program_id(0) // shares).to(tl.int64)
    first = tl.program_id(0) % shares * (STEPS * BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for step in range(STEPS):
        pixel = first + step * BLOCK_P + tl.arange(0, BLOCK_P)
        inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
        values = tl.load(address(x, sample, channel[None, :], pixel[:, None]), inside, other=0)
        total += values.to(tl.float32)
        if COPY:
            tl.store(address(copy, sample, channel[None, :], pixel[:, None]), values, inside)
    row = tl.program_id(0).to(tl.int64) * channels
    tl.store(sums + row + channel, tl.sum(total, 0), channel < channels)


@triton.jit
def select(
    sums,
    fc1,
    fc2,
    index,
    scores,
    channels,
    pixels,
    shares,
    K: tl.constexpr,
    HIDDEN: tl.constexpr,
    MOST_SHARES: tl.constexpr,
    BY_INDEX: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """The channel selector of one sample: the k channels and their scores, both (N, k).

    Equal logits: the lower channel first. NaN ranks highest, as for ``torch.topk``.
    """
    sample = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK_C)
    real = channel < channels
    pooled = tl.zeros([BLOCK_C], tl.float32)
    for share in range(MOST_SHARES):
        row = sums + (sample * shares + share) * channels
        pooled += tl.load(row + channel, real & (share < shares), other=0)
    pooled /= pixels

    logits = tl.zeros([BLOCK_C], tl.float32)
    for start in range(0, HIDDEN, BLOCK_H):
        unit = start + tl.arange(0, BLOCK_H)
        inside = (unit < HIDDEN)[:, None] & real[None, :]
        into = tl.load(fc1 + unit[:, None] * channels + channel[None, :], inside, other=0)
        onward = tl.load(fc2 + channel[None, :] * HIDDEN + unit[:, None], inside, other=0)
        activity = relu(tl.sum(into.to(tl.float32) * pooled[None, :], 1))
        activity = tl.where(unit < HIDDEN, activity, 0)
        logits += tl.sum(onward.to(tl.float32) * activity[:, None], 0)

    # One integer for rank and channel: a single maximum finds both, and no two are equal, so that
    # K different channels are found whatever the logits are.
    rank = ascending(logits).to(tl.int64) * 4294967296
    key = tl.where(real, rank + (BLOCK_C - 1 - channel), -9223372036854775808)
    place = tl.full([BLOCK_C], K, tl.int32)
    for rounds in range(K):
        best = channel == BLOCK_C - 1 - (tl.max(key, 0) & (BLOCK_C - 1)).to(tl.int32)
        place = tl.where(best, rounds, place)
        key = tl.where(best, -9223372036854775808, key)
    chosen = place < K
    if BY_INDEX:
        place = tl.cumsum(chosen.to(tl.int32), 0) - 1
    tl.store(index + sample * K + place, channel, chosen)
    tl.store(scores + sample * K + place, tl.sigmoid(logits), chosen)


@triton.jit
def enter(
    x,
    index,
    layer,
    narrow,
    height,
    width,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Gather the k channels and run the Conv-Block's first layer on them.

    ``narrow``: its output, (N, WIDTH, height * width), in the map's dtype.
    """
    tiles = tl.cdiv(height * width, BLOCK_P)
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = tl.program_id(0) % tiles * BLOCK_P + tl.arange(0, BLOCK_P)
    result = convolve(
        x, sample, index + sample * K, layer, pixel, height, width,
        K, WIDTH, SIZE, BLOCK_P, BLOCK_O,
    )  # fmt: skip
    out = tl.arange(0, BLOCK_O)[None, :]
    pixel = pixel[:, None]
    target = narrow + (sample * WIDTH + out) * (height * width) + pixel
    tl.store(target, relu(result), (pixel < height * width) & (out < WIDTH))


@triton.jit
def leave(
    x,
    fused,
    index,
    scores,
    narrow,
    spatial,
    last,
    start,
    height,
    width,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    BOTTLENECK: tl.constexpr,
    ADD: tl.constexpr,
    ORIGINAL: tl.constexpr,
    RELU_BEFORE: tl.constexpr,
    RELU_AFTER: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Run the rest of the Conv-Block, multiply with the scores, fuse.

    ``narrow``: the Map of WIDTH channels that ``enter`` wrote. ``spatial``: a 3x3 layer.
    ``last``: a bottleneck's 1x1 layer. ``start``: the first of the K channels that are fused,
    unless each goes back to its ORIGINAL place. Nothing else of ``fused`` is written; it may be
    ``x``.
    """
    tiles = tl.cdiv(height * width, BLOCK_P)
    sample = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = tl.program_id(0) % tiles * BLOCK_P + tl.arange(0, BLOCK_P)
    out = tl.arange(0, BLOCK_K)
    if BOTTLENECK:
        middle = convolve(
            narrow, sample, None, spatial, pixel, height, width,
            WIDTH, WIDTH, 3, BLOCK_P, BLOCK_M,
        )  # fmt: skip
        result = mix(relu(middle), last, WIDTH, K, BLOCK_M, BLOCK_K)
    else:
        result = convolve(
            narrow, sample, None, spatial, pixel, height, width,
            WIDTH, K, 3, BLOCK_P, BLOCK_K,
        )  # fmt: skip
    if RELU_BEFORE:
        result = relu(result)

    result *= tl.load(scores + sample * K + out, out < K, other=0)[None, :]
    place = tl.load(index + sample * K + out, out < K, other=0) if ORIGINAL else start + out
    inside = (pixel < height * width)[:, None] & (out < K)[None, :]
    if ADD:
        old = tl.load(address(x, sample, place[None, :], pixel[:, None]), inside, other=0)
        result += old.to(tl.float32)
    if RELU_AFTER:
        result = relu(result)
    tl.store(address(fused, sample, place[None, :], pixel[:, None]), result, inside)


@triton.jit
def convolve(
    source,
    sample,
    gather,
    layer,
    pixel,
    height,
    width,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Convolution and norm at some pixels of a Map: (BLOCK_P, BLOCK_O).

    ``gather``: where the numbers of its input channels stand, or None for the first INPUTS.
    """
    row = pixel // width
    column = pixel % width
    out = tl.arange(0, BLOCK_O)
    total = tl.zeros([BLOCK_P, BLOCK_O], tl.float32)
    for channel in range(INPUTS):
        place = channel if gather is None else tl.load(gather + channel)
        for tap in tl.static_range(SIZE * SIZE):
            y = row + (tap // SIZE - SIZE // 2) * layer.dilation
            x = column + (tap % SIZE - SIZE // 2) * layer.dilation
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            value = tl.load(address(source, sample, place, y * width + x), inside, other=0)
            weight = tl.load(filters(layer, out, channel, tap), out < OUTPUTS, other=0)
            total += value.to(tl.float32)[:, None] * weight.to(tl.float32)[None, :]
    return normalize(total, layer, out, OUTPUTS)


@triton.jit
def mix(
    values,
    layer,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """1x1 convolution and norm of what a program holds: (P, BLOCK_I) -> (P, BLOCK_O)."""
    into = tl.arange(0, BLOCK_I)
    out = tl.arange(0, BLOCK_O)
    inside = (into < INPUTS)[:, None] & (out < OUTPUTS)[None, :]
    weight = tl.load(filters(layer, out[None, :], into[:, None], 0), inside, other=0)
    total = tl.sum(values[:, :, None] * weight.to(tl.float32)[None, :, :], 1)
    return normalize(total, layer, out, OUTPUTS)


@triton.jit
def normalize(total, layer, out, OUTPUTS: tl.constexpr):
    """The convolution's bias and the norm in eval mode; zero beyond the outputs."""
    real = out < OUTPUTS
    if layer.bias is not None:
        total += tl.load(layer.bias + out, real, other=0).to(tl.float32)[None, :]
    if layer.mean is not None:
        mean = tl.load(layer.mean + out, real, other=0).to(tl.float32)
        variance = tl.load(layer.variance + out, real, other=1).to(tl.float32)
        scale = 1 / tl.sqrt(variance + layer.eps)
        if layer.gamma is not None:
            scale *= tl.load(layer.gamma + out, real, other=0).to(tl.float32)
        total = (total - mean[None, :]) * scale[None, :]
        if layer.beta is not None:
            total += tl.load(layer.beta + out, real, other=0).to(tl.float32)[None, :]
    return tl.where(real[None, :], total, 0)


@triton.jit
def address(x, sample, channel, pixel):
    """Where an element of a Map stands. ``sample`` is int64: a batch may have 2**31 elements."""
    return x.data + sample * x.sample + (channel * x.channel + pixel * x.pixel)


@triton.jit
def filters(layer, out, channel, tap):
    """Where a weight of a Layer stands."""
    return layer.weight + (out * layer.output + channel * layer.input + tap * layer.tap)


@triton.jit
def relu(x):
    """As torch's: NaN stays."""
    return tl.where(x < 0, 0, x)


@triton.jit
def ascending(x):
    """Integers, int32, in the order of float32 numbers; NaN is the largest."""
    bits = x.to(tl.int32, bitcast=True)
    bits = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return tl.where(x != x, 0x7FFFFFFF, bits)
