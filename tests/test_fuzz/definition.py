"""An MoD block's output against what the definition says, in any precision."""

import copy

import torch

from ..test_layers.reference import reference_mod_block, reference_scores

# Relative errors of what a Conv-Block adds: a few roundings.
TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.bfloat16: 0.1,
    torch.float16: 0.03,
}
HALF = (torch.bfloat16, torch.float16)


def randomize(module):
    """Give norms and layer scales statistics and weights that a wrong order would not survive."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.dim() == 1:
            positive = name.endswith(('weight', 'running_var'))
            tensor.uniform_(0.5 if positive else -0.5, 1.5 if positive else 0.5)


def check_block(block, x, index, out):
    """Compare a block's output with the definition's.

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
    exact = copy.deepcopy(block).double()
    check_selection(exact, x.double(), index, TOLERANCE[x.dtype])
    expected = reference_mod_block(exact, x.double(), index.tolist())
    standardized = any(type(layer).__name__ == 'ConvWS2d' for layer in block.modules())
    if standardized and x.dtype in HALF:  # differences of rounded weights: any number
        return
    added = (expected - x.double()).norm()
    error = (out.double() - expected).norm()
    rounding = torch.finfo(x.dtype).eps * x.double().norm()
    assert error <= TOLERANCE[x.dtype] * added + rounding, (error, added, rounding)


def check_selection(exact, x, index, tolerance):
    """Distinct channels; of a learned selection those of the highest scores, highest first."""
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
    """Whether rounding in float32 cannot change which channels a block takes, and their order."""
    if not hasattr(block.selector, 'fc1') or x.numel() == 0:
        return True
    logits = copy.deepcopy(block.selector).double().logits(x.double())
    best = logits.sort(dim=1, descending=True).values[:, : block.k + 1]
    return bool((best[:, :-1] - best[:, 1:] > 1e-5).all())
