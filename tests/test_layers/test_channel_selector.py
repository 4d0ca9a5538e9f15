"""The channel selector: selection, precision and initialisation."""

import pytest
import torch

from mmcnnmod.layers import ChannelSelector

from ..utils.blocks import TORCH, saturate, turn_off
from ..utils.reference import reference_scores


def test_scores_and_order():
    torch.manual_seed(0)
    selector = ChannelSelector(48, k=5, r=4)
    x = torch.randn(6, 48, 3, 4)
    index, scores = selector(x)
    expected = reference_scores(selector, x)
    assert index.shape == scores.shape == (6, 5)
    torch.testing.assert_close(scores, expected.gather(1, index))
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    others = expected.scatter(1, index, -1.0)
    assert (others.max(dim=1).values <= scores[:, -1]).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('autocast', [None, torch.bfloat16, torch.float16])
def test_saturated_scores_select_the_highest_logits(dtype, autocast):
    if torch.float16 in (dtype, autocast) and TORCH < (2, 4):
        pytest.skip('this torch has no fp16 on CPU')
    for width, k in ((16, 4), (64, 1), (128, 2)):  # topk has another algorithm for small k
        selector = ChannelSelector(width, k)
        highest = saturate(selector)
        x = (torch.rand(3, width, 4, 5) + 0.1).to(dtype)
        with torch.autocast('cpu', dtype=autocast, enabled=autocast is not None):
            index, scores = selector.to(dtype)(x)
        assert index.tolist() == [highest] * 3
        assert (scores == 1).all()
        assert scores.dtype == torch.float32


@pytest.mark.parametrize(('width', 'k'), [(16, 4), (128, 2), (256, 64)])
def test_equal_logits_select_the_same_channels_in_any_batch(width, k):
    selector = ChannelSelector(width, k)
    turn_off(selector)
    index, scores = selector(torch.rand(5, width, 3, 3))
    assert (scores == 0.5).all()
    for batch in (1, 2, 5):
        assert torch.equal(selector(torch.rand(batch, width, 4, 2))[0], index[:batch])
    assert (index == index[0]).all()


def test_autocast_does_not_round_the_scores():
    torch.manual_seed(0)
    selector = ChannelSelector(64, k=8)
    x = torch.rand(2, 64, 3, 3)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rounded = selector(x)
    for low, full in zip(rounded, selector(x), strict=True):
        torch.testing.assert_close(low, full)


@pytest.mark.parametrize('width', [16, 32, 64])
def test_every_initialisation_has_gradients(width):
    """With few hidden units, default initialisation would leave some selectors without gradient."""
    for seed in range(200):
        torch.manual_seed(seed)
        selector = ChannelSelector(width, k=4)
        _, scores = selector(torch.rand(2, width, 2, 2))
        scores.sum().backward()
        assert selector.fc1.weight.grad.any()
        assert selector.fc2.weight.grad.any()


def test_no_bias():
    """The paper's counts include no biases: R75-MoD has 23.10 M without them, 23.11 M with them."""
    names = [name for name, _ in ChannelSelector(64, k=1).named_parameters()]
    assert names == ['fc1.weight', 'fc2.weight']
