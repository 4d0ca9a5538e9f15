"""MoD blocks and tracers for the tests, and selectors with extreme scores."""

import torch

from mmcnnmod.layers import MoDBlock, bottleneck

# The version of torch, such as (2, 4).
TORCH = tuple(int(n) for n in torch.__version__.split('+')[0].split('.')[:2])

# Each takes a module and an example input.
TRACERS = {
    'jit': torch.jit.trace,
    'fx': lambda module, x: torch.fx.symbolic_trace(module),
    'export': lambda module, x: torch.export.export(module, (x,), strict=True).module(),
    'export, not strict': lambda module, x: torch.export.export(
        module, (x,), strict=False
    ).module(),
}


def make_block(width=32, conv_block=bottleneck, **options):
    """An MoD block, with c=4 and r=4 by default."""
    return MoDBlock(width, conv_block, **{'c': 4, 'r': 4, **options})


def make_eval_block(width=24, conv_block=bottleneck, **options):
    """An MoD block in eval mode whose norms have random statistics and weights."""
    block = make_block(width, conv_block, **options)
    randomize_norms(block)
    for name, tensor in block.state_dict().items():
        if name.endswith('bias'):  # otherwise all outputs of a narrow block may be 0
            tensor.add_(1)
    return block.eval()


def randomize_norms(module):
    """Give norms, biases and layer scales random values, so that a wrong order would show."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.dim() == 1:
            positive = name.endswith(('weight', 'running_var', 'gamma'))
            lowest = 0.5 if positive else -0.5
            tensor.uniform_(lowest, lowest + 1)


@torch.no_grad()
def saturate(selector):
    """Make the scores of a positive map 1, also in float32, with logits that all differ.

    Args:
        selector (ChannelSelector): Changed in place.

    Returns:
        list[int]: The channels it selects, the one with the highest logit first.
    """
    width = selector.in_channels
    order = torch.randperm(width, generator=torch.Generator().manual_seed(width))
    # The first hidden unit is the mean of the map. Its products with these weights fit into fp16.
    selector.fc1.weight.zero_()[0] = 1 / width
    selector.fc2.weight.zero_()[order, 0] = 100.0 * torch.arange(width, 0, -1)
    return order[: selector.k].tolist()


@torch.no_grad()
def turn_off(selector):
    """Make all logits of a positive map 0, because no hidden unit is active."""
    selector.fc1.weight.fill_(-1)
