"""The MoD block written from the paper's equations, one sample at a time, and checks against it."""

import copy
import math

import torch
import torch.nn.functional as F

# Relative errors of the processed channels: a few roundings.
TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.bfloat16: 0.1,
    torch.float16: 0.03,
}
HALF = (torch.bfloat16, torch.float16)


def reference_mod_block(block, x, chosen=None):
    """The output of an MoD block with any Conv-Block of this package.

    Args:
        block: An MoDBlock; only its weights and settings are read.
        x: Feature map of shape (N, C, H, W).
        chosen: The channels to process in each sample; by default those with the highest scores.
            Needed if the block selects at random or its scores are rounded.
    """
    learned = hasattr(block.selector, 'fc1')
    scores = reference_scores(block.selector, x) if learned else torch.ones_like(x[:, :, 0, 0])
    if chosen is None:
        chosen = [sorted(range(x.shape[1]), key=lambda j: -s[j].item())[: block.k] for s in scores]
    processed = reference_conv_block(
        block.conv_block, torch.stack([x[n, rows] for n, rows in enumerate(chosen)])
    )
    outputs = []
    for n, rows in enumerate(chosen):
        weighted = processed[n] * scores[n, rows].view(-1, 1, 1)
        targets = {
            'first': range(block.k),
            'last': range(x.shape[1] - block.k, x.shape[1]),
            'original': rows,
        }[block.fusion.position]
        channels = list(x[n])
        for i, target in enumerate(targets):
            old = channels[target] if block.fusion.mode == 'add' else 0
            channels[target] = old + weighted[i]
        outputs.append(torch.stack(channels))
    return torch.stack(outputs)


def reference_scores(selector, x):
    """Section 3.1: s = sigmoid(W2 relu(W1 mean(X)))."""
    pooled = x.mean(dim=(2, 3))
    hidden = (pooled @ selector.fc1.weight.T).clamp(min=0)
    return 1 / (1 + torch.exp(-(hidden @ selector.fc2.weight.T)))


def reference_conv_block(layers, x):
    """Apply the layers of a Conv-Block one after the other."""
    for layer in layers:
        if type(layer).__name__ == 'ConvModule':
            x = reference_conv(layer.conv, x)
            x = reference_norm(layer.norm, x) if layer.with_norm else x
            x = reference_activation(layer.activate, x) if layer.with_activation else x
        else:
            x = reference_layer(layer, x)
    return x


def reference_layer(layer, x):
    """A layer of a ConvNeXt block."""
    kind = type(layer).__name__
    if kind == 'Conv2d':
        return reference_conv(layer, x)
    if kind == 'LayerScale':
        return x * layer.weight.view(1, -1, 1, 1)
    if kind == 'GRN':
        length = x.square().sum(dim=(2, 3), keepdim=True).sqrt()
        part = length / (length.mean(dim=1, keepdim=True) + layer.eps)
        return x * part * layer.gamma.view(1, -1, 1, 1) + layer.beta.view(1, -1, 1, 1) + x
    return reference_norm(layer, x) if hasattr(layer, 'eps') else reference_activation(layer, x)


def reference_conv(conv, x):
    weight = conv.weight
    if type(conv).__name__ == 'ConvWS2d':
        rows = weight.flatten(1)
        rows = (rows - rows.mean(dim=1, keepdim=True)) / (rows.std(dim=1, keepdim=True) + conv.eps)
        weight = rows.view_as(weight)
    return F.conv2d(x, weight, conv.bias, 1, conv.padding, conv.dilation, conv.groups)


def reference_norm(norm, y):
    kind = type(norm).__name__
    if kind == 'LayerNorm2d':
        mean, var = y.mean(dim=1, keepdim=True), y.var(dim=1, keepdim=True, unbiased=False)
    elif kind == 'GroupNorm':
        groups = y.reshape(len(y), norm.num_groups, -1)
        mean, var = groups.mean(dim=2), groups.var(dim=2, unbiased=False)
        each = norm.num_channels // norm.num_groups
        mean, var = (v.repeat_interleave(each, dim=1)[:, :, None, None] for v in (mean, var))
    elif norm.training:
        mean, var = y.mean(dim=(0, 2, 3)), y.var(dim=(0, 2, 3), unbiased=False)
        mean, var = mean.view(1, -1, 1, 1), var.view(1, -1, 1, 1)
    else:
        mean, var = norm.running_mean.view(1, -1, 1, 1), norm.running_var.view(1, -1, 1, 1)
    y = (y - mean) / torch.sqrt(var + norm.eps)
    return y * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def reference_activation(activation, x):
    kind = type(activation).__name__
    if kind == 'GELU':
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    return {'ReLU': x.clamp(min=0), 'ReLU6': x.clamp(0, 6)}[kind]


def check_block(block, x, index, out):
    """Compare the output of a block with the reference in float64.

    Args:
        block: An MoDBlock in eval mode.
        x: Its input.
        index: The channels that it selected, shape (N, k).
        out: Its output.
    """
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    if x.numel() == 0:
        return
    start = {'first': block.k, 'last': 0}.get(block.fusion.position)
    if start is not None:  # the other channels pass through
        others = slice(start, start + x.shape[1] - block.k)
        assert torch.equal(out[:, others], x[:, others])
    exact = copy.deepcopy(block).double()
    check_selection(exact, x.double(), index, TOLERANCE[x.dtype])
    expected = reference_mod_block(exact, x.double(), index.tolist())
    standardized = any(type(layer).__name__ == 'ConvWS2d' for layer in block.modules())
    if standardized and x.dtype in HALF:  # rounding of weights may change them completely
        return
    added = (expected - x.double()).norm()
    error = (out.double() - expected).norm()
    rounding = torch.finfo(x.dtype).eps * x.double().norm()
    assert error <= TOLERANCE[x.dtype] * added + rounding, (error, added, rounding)


def check_selection(exact, x, index, tolerance):
    """Channels are distinct. A learned selection has the highest scores, highest first."""
    n, channels = x.shape[:2]
    assert index.shape == (n, exact.k)
    assert all(len(set(row)) == exact.k for row in index.tolist())
    assert index.min() >= 0
    assert index.max() < channels
    if hasattr(exact.selector, 'fc1'):
        scores = reference_scores(exact.selector, x)
        chosen = scores.gather(1, index)
        assert (chosen[:, :-1] - chosen[:, 1:] >= -tolerance).all()
        rest = scores.scatter(1, index, -1)
        assert (chosen.amin(dim=1) >= rest.amax(dim=1) - tolerance).all()


def has_clear_order(block, x):
    """Whether rounding in float32 cannot change the selection and its order."""
    if not hasattr(block.selector, 'fc1') or x.numel() == 0:
        return True
    logits = copy.deepcopy(block.selector).double().logits(x.double())
    best = logits.sort(dim=1, descending=True).values[:, : block.k + 1]
    return bool((best[:, :-1] - best[:, 1:] > 1e-5).all())
