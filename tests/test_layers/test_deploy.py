"""The deploy form of an MoD block: the same results without norms."""

import copy

import pytest
import torch
from mmcv.cnn import is_norm
from torch import nn

from mmcnnmod.layers import MoDBlock, basic_block, bottleneck, inverted_residual, plain_conv

from .test_mod_block import randomize_norms

CONV_BLOCKS = {
    'bottleneck': bottleneck,
    'basic': basic_block,
    'inverted': lambda k: inverted_residual(k, 3 * k),
    'plain': plain_conv,
}


def make(conv_block=bottleneck, **options):
    torch.manual_seed(0)
    block = MoDBlock(32, conv_block, **{'c': 4, 'r': 4, **options})
    randomize_norms(block)
    return block


def norms(module):
    return [layer for layer in module.modules() if is_norm(layer)]


@pytest.mark.parametrize('conv_block', CONV_BLOCKS.values(), ids=CONV_BLOCKS.keys())
@pytest.mark.parametrize('options', [{}, {'fusion': 'replace', 'position': 'original'}])
@torch.no_grad()
def test_same_results_without_norms(conv_block, options):
    block, x = make(conv_block, **options).double().eval(), torch.rand(2, 32, 5, 4).double()
    expected = block(x)
    block.train().switch_to_deploy()
    torch.testing.assert_close(block(x), expected)
    assert not norms(block)
    assert not block.training
    assert block.deploy


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_after_folding(dtype):
    block, x = make().eval(), torch.rand(2, 32, 5, 4)
    expected = block(x)
    block.switch_to_deploy()
    try:
        out = block.to(dtype)(x.to(dtype))
    except RuntimeError as problem:
        pytest.skip(f'this torch: {problem}')
    torch.testing.assert_close(out.float(), expected, rtol=0.03, atol=0.03)


def test_a_second_time_changes_nothing():
    block = make()
    block.switch_to_deploy()
    before = copy.deepcopy(block.state_dict())
    block.switch_to_deploy()
    assert before.keys() == block.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in block.state_dict().items())


def test_what_only_training_needs_is_dropped():
    block = make(drop_path=nn.Dropout(0.5), with_cp=True)
    block.switch_to_deploy()
    assert isinstance(block.drop_path, nn.Identity)
    assert not block.with_cp


def test_training_mode_is_refused_in_one_line():
    block = make()
    block.train()
    block.switch_to_deploy()
    block.eval()
    with pytest.raises(RuntimeError, match=r'switched to deploy.*to train, build') as caught:
        block.train()
    assert '\n' not in str(caught.value)
    assert not block.training


@pytest.mark.parametrize('norm_cfg', [{'type': 'GN', 'num_groups': 2}, {'type': 'IN'}])
@torch.no_grad()
def test_other_norms_stay(norm_cfg):
    block = make(lambda k: plain_conv(k, norm_cfg=norm_cfg)).eval()
    x = torch.rand(2, 32, 5, 4)
    expected, count = block(x), len(norms(block))
    block.switch_to_deploy()
    assert len(norms(block)) == count
    assert torch.equal(block(x), expected)


@torch.no_grad()
def test_standardised_convolutions_keep_their_norms():
    """Scaled weights would be standardised again."""
    block = make(lambda k: basic_block(k, conv_cfg={'type': 'ConvWS'})).eval()
    x = torch.rand(2, 32, 5, 4)
    expected = block(x)
    block.switch_to_deploy()
    assert norms(block)
    assert torch.equal(block(x), expected)


@torch.no_grad()
def test_states_of_two_deployed_blocks_fit():
    one, other = make(), make(position='last')
    nn.init.zeros_(other.selector.fc1.weight)
    other.fusion.position = 'first'
    one.switch_to_deploy()
    other.switch_to_deploy()
    other.load_state_dict(one.state_dict())
    x = torch.rand(2, 32, 5, 4)
    assert torch.equal(one(x), other(x))
