"""The MoD block straight from the paper's equations: one sample at a time, no cleverness."""

import torch
import torch.nn.functional as F


def reference_mod_block(block, x):
    """Output of an MoD block with a bottleneck or basic Conv-Block on BatchNorm.

    Args:
        block: An MoDBlock; only its weights and settings are read.
        x: Feature map of shape (N, C, H, W).
    """
    scores = reference_scores(block.selector, x)
    chosen = [sorted(range(x.shape[1]), key=lambda j: -s[j].item())[: block.k] for s in scores]
    processed = torch.stack([x[n, rows] for n, rows in enumerate(chosen)])
    for module in block.conv_block:
        processed = F.relu(reference_conv_norm(module, processed))
    outputs = []
    for n, rows in enumerate(chosen):
        weighted = processed[n] * scores[n, rows].view(-1, 1, 1)
        places = {
            'first': list(range(block.k)),
            'last': list(range(x.shape[1] - block.k, x.shape[1])),
            'original': rows,
        }[block.fusion.position]
        channels = list(x[n])
        for i, place in enumerate(places):
            old = channels[place] if block.fusion.mode == 'add' else 0
            channels[place] = old + weighted[i]
        outputs.append(torch.stack(channels))
    return torch.stack(outputs)


def reference_scores(selector, x):
    """Section 3.1: s = sigmoid(W2 relu(W1 mean(X)))."""
    pooled = x.mean(dim=(2, 3))
    hidden = (pooled @ selector.fc1.weight.T).clamp(min=0)
    return 1 / (1 + torch.exp(-(hidden @ selector.fc2.weight.T)))


def reference_conv_norm(module, x):
    conv, norm = module.conv, module.norm
    y = F.conv2d(x, conv.weight, conv.bias, 1, conv.padding, conv.dilation)
    if norm.training:
        mean, var = y.mean(dim=(0, 2, 3)), y.var(dim=(0, 2, 3), unbiased=False)
    else:
        mean, var = norm.running_mean, norm.running_var
    y = (y - mean.view(1, -1, 1, 1)) / torch.sqrt(var.view(1, -1, 1, 1) + norm.eps)
    return y * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
