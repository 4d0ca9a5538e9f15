"""MoD blocks for the tests, and selectors at the limits of their scores."""

import torch

from mmcnnmod.layers import MoDBlock, bottleneck

# The version of torch, such as (2, 4).
TORCH = tuple(int(n) for n in torch.__version__.split('+')[0].split('.')[:2])


def make_block(width=32, conv_block=bottleneck, **options):
    """An MoD block, with c=4 and r=4 unless the options say otherwise."""
    return MoDBlock(width, conv_block, **{'c': 4, 'r': 4, **options})


def randomize_norms(module):
    """Give the norms random statistics and weights, with which a wrong order would show."""
    for name, tensor in module.state_dict().items():
        if 'bn.' in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)


@torch.no_grad()
def saturate(selector):
    """Logits that all differ, of maps above 0, so high that their sigmoid is 1 in float32 as well.

    Args:
        selector (ChannelSelector): Changed in place.

    Returns:
        list[int]: The channels it selects, the one with the highest logit first.
    """
    width = selector.in_channels
    order = torch.randperm(width, generator=torch.Generator().manual_seed(width))
    # The first hidden unit is the mean of the map; fp16 can hold its products with these.
    selector.fc1.weight.zero_()[0] = 1 / width
    selector.fc2.weight.zero_()[order, 0] = 100.0 * torch.arange(width, 0, -1)
    return order[: selector.k].tolist()


@torch.no_grad()
def turn_off(selector):
    """Let no hidden unit be on, for maps above 0: all logits are 0."""
    selector.fc1.weight.fill_(-1)
