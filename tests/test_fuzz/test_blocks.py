"""Any MoD block on any map: the output of the reference, or one line that names the option."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mmcv.cnn import ConvWS2d
from mmcv.cnn.bricks import DropPath
from torch import nn

from mmcnnmod.layers import (
    MoDBlock,
    basic_block,
    bottleneck,
    convnext_block,
    inverted_residual,
    plain_conv,
)
from mmcnnmod.ops import DeployedMoDBlock

from ..utils.blocks import randomize_norms
from ..utils.drawing import (
    CHOICES,
    DTYPES,
    HUGE,
    LAYOUTS,
    WRONG,
    check_message,
    drawn,
    feature_map,
    is_count,
    share,
    with_wrong_values,
    wrong_choices,
)
from ..utils.reference import TOLERANCE, check_block, has_clear_order

SIZES = st.sampled_from([1, 2, 3, 5, 8])
NORMS = st.sampled_from([dict(type='BN'), dict(type='GN', num_groups=4), dict(type=nn.BatchNorm2d)])
DILATIONS = st.integers(1, 3)
CFGS = {
    'dilation': DILATIONS,
    'norm_cfg': NORMS,
    'conv_cfg': st.sampled_from([None, dict(type='Conv2d'), dict(type='ConvWS')]),
}


class LayerNorm2d(nn.LayerNorm):
    """ConvNeXt's norm, which is part of a toolbox."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


# The options of each Conv-Block.
CONV_BLOCKS = {
    bottleneck: {**CFGS, 'expansion': st.sampled_from([1, 2, 4, 100])},
    basic_block: CFGS,
    inverted_residual: {**CFGS, 'hidden_channels': st.integers(1, 12)},
    plain_conv: {**CFGS, 'norm_cfg': st.none() | NORMS},
    convnext_block: {
        'norm': st.just(partial(LayerNorm2d, eps=1e-6)),
        'kernel_size': st.sampled_from([1, 3, 7]),
        'expansion': st.sampled_from([1, 2, 4]),
        'layer_scale': st.sampled_from([None, 1.0, 0.1]),
    },
}
COUNTS = ('expansion', 'dilation', 'hidden_channels', 'kernel_size')
OPTIONS = {
    'r': st.integers(1, 8),
    'position': st.sampled_from(CHOICES['position']),
    'fusion': st.sampled_from(CHOICES['fusion']),
    'selection': st.sampled_from(CHOICES['selection']),
    'with_cp': st.booleans(),
}


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def draw_conv_block(data):
    build = data.draw(st.sampled_from(list(CONV_BLOCKS)), 'conv_block')
    return partial(build, **drawn(data, CONV_BLOCKS[build], required=['norm', 'hidden_channels']))


def draw_block(data):
    """A block in eval mode."""
    width = data.draw(st.integers(8, 40), 'width')
    options = {'r': 4, **drawn(data, OPTIONS)}
    if options.get('fusion') != 'replace' and data.draw(st.booleans(), 'with drop_path'):
        options['drop_path'] = DropPath(0.5)
    torch.manual_seed(data.draw(st.integers(0, 2**31), 'seed'))
    block = MoDBlock(width, draw_conv_block(data), data.draw(st.integers(1, 8), 'c'), **options)
    randomize_norms(block)
    return block.eval()


def draw_map(data, channels, dtype):
    shape = data.draw(st.integers(0, 3), 'n'), channels, *data.draw(st.tuples(SIZES, SIZES), 'size')
    return feature_map(shape, dtype, data.draw(st.sampled_from(LAYOUTS), 'layout'), seed=0)


def outcome(build):
    """What is built and None, or None and the ValueError."""
    try:
        return build(), None
    except ValueError as problem:
        return None, problem


def can_normalize(block, x):
    """Whether no group of a GroupNorm has a single value, for which torch raises an error."""
    groups = [layer for layer in block.modules() if isinstance(layer, nn.GroupNorm)]
    single_channels = any(norm.num_channels == norm.num_groups for norm in groups)
    return not single_channels or x.numel() != block.in_channels


@share(0.12)
@given(st.data())
def test_output_matches_the_reference(data):
    dtype = data.draw(st.sampled_from(DTYPES), 'dtype')
    block = draw_block(data).to(dtype)
    standardized = any(isinstance(layer, ConvWS2d) for layer in block.modules())
    # mmcv cannot standardise channels-last weights.
    if not standardized and data.draw(st.booleans(), 'weights channels last'):
        block.to(memory_format=torch.channels_last)
    x = draw_map(data, block.in_channels, dtype)
    kept = x.clone()
    assume(can_normalize(block, x))
    torch.manual_seed(1)  # for random selection
    index = block.selector(x)[0]
    torch.manual_seed(1)
    out = block(x)
    assert torch.equal(x, kept)
    check_block(block, x, index, out)


@share(0.08)
@given(st.data())
def test_deployed_output_matches_the_block(data):
    """Norms are folded in float32, and the block is converted afterwards."""
    block = draw_block(data)
    deployed = DeployedMoDBlock(copy.deepcopy(block), data.draw(st.booleans(), 'in place'))
    dtype = data.draw(st.sampled_from(DTYPES), 'dtype')
    deployed, block = deployed.to(dtype), block.to(dtype)
    x = draw_map(data, block.in_channels, dtype)
    assume(can_normalize(block, x) and has_clear_order(block, x))
    torch.manual_seed(1)
    expected = block(x)
    given = x.clone()
    torch.manual_seed(1)
    out = deployed(given)
    if not deployed.inplace:
        assert torch.equal(given, x)
    added = (expected.double() - x.double()).norm()
    rounding = torch.finfo(dtype).eps * x.double().norm()
    error = (out.double() - expected.double()).norm()
    assert error <= 2 * max(TOLERANCE[dtype], TOLERANCE[torch.float32]) * added + rounding


@share(0.06)
@given(st.data())
def test_wrong_options_are_named(data):
    """Right ones raise no error."""
    width = data.draw(st.integers(1, 40), 'width')
    options = {'c': 4, 'r': 4, 'drop_path': None, **drawn(data, OPTIONS)}
    # Any true value switches checkpointing on, as in the toolboxes.
    options = with_wrong_values(data, options, options.keys() - {'with_cp'})
    width = data.draw(st.just(width) | WRONG, 'in_channels')
    assume(not (type(width) is int and width == HUGE))  # needs too much memory
    bad = wrong_choices(options)
    bad += [] if is_count(width, 99) else ['in_channels']
    bad += [] if options['drop_path'] is None else ['drop_path']
    bad += [
        name for name in ('c', 'r') if not is_count(width, 99) or not is_count(options[name], width)
    ]
    block, problem = outcome(partial(MoDBlock, width, basic_block, **options, name='stage 1'))
    assert (problem is not None) is bool(bad), problem
    if bad:
        check_message(problem, *(f'{name} ' for name in bad), *(f'{name}=' for name in bad))
        assert str(problem).startswith('stage 1 ')
    else:
        assert block.eval()(torch.rand(1, width, 2, 2)).shape == (1, width, 2, 2)


@share(0.02)
@given(st.data())
def test_wrong_options_of_conv_blocks_are_named(data):
    build = data.draw(st.sampled_from(list(CONV_BLOCKS)), 'conv_block')
    options = drawn(data, CONV_BLOCKS[build], required=['norm', 'hidden_channels'])
    k = data.draw(st.integers(1, 9) | WRONG, 'k')
    names = [name for name in COUNTS if name in CONV_BLOCKS[build]]
    options = with_wrong_values(data, options, names) if names else options
    assume(not any(type(n) is int and n == HUGE for n in (k, *options.values())))  # no memory
    bad = [name for name in names if name in options and not is_count(options[name], 100)]
    bad += [] if is_count(k, 100) else ['k']
    layers, problem = outcome(partial(build, k, **options))
    assert (problem is not None) is bool(bad), problem
    if bad:
        check_message(problem, *(f'{name} ' for name in bad))
    else:
        assert layers.eval()(torch.rand(2, k, 4, 4)).shape == (2, k, 4, 4)


@share(0.02)
@given(st.data())
def test_wrong_shapes_raise_an_error_in_one_line(data):
    block = MoDBlock(8, basic_block, c=2, r=2).eval()
    if data.draw(st.booleans(), 'deployed'):
        block = DeployedMoDBlock(block)
    shape = data.draw(st.lists(st.sampled_from([0, 1, 7, 8, 9]), max_size=5).map(tuple), 'shape')
    assume(0 not in shape[2:])  # torch does not convolve empty maps
    if len(shape) == 4 and shape[1] == 8:
        assert block(torch.rand(shape)).shape == shape
    else:
        with pytest.raises(AssertionError, match=r'^MoD block [^\n]*expected an input of shape'):
            block(torch.rand(shape))
