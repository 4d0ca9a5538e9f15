"""Selectors at their limits: every score is 1, or none of their hidden units is on."""

import torch


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
