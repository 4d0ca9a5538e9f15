"""Every way to compute an MoD block against its definition, on the same weights."""

import copy
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmcnnmod.layers import MoDBlock, basic_block, bottleneck, use_backend
from mmcnnmod.layers.backends import switch

from ..test_mod_block import TORCH, randomize_norms

# Relative, as root mean squares; in half precision the ways round at other places.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 3e-3,
}
DTYPES = list(TOLERANCE) if TORCH >= (2, 4) else list(TOLERANCE)[:3]  # fp16 on a CPU came late
OPTIONS = {
    'position': ['first', 'last', 'original'],
    'fusion': ['add', 'replace'],
    'selection': ['topk', 'random'],
    'order': ['score', 'index'],
    'last_activation': ['before', 'after'],
}
LAYOUTS = [torch.contiguous_format, torch.channels_last]


class DropEverySecond(nn.Module):
    """Stochastic depth without chance."""

    def forward(self, x):
        kept = torch.arange(len(x), device=x.device) % 2 * 2
        return x * kept.to(x.dtype)[:, None, None, None]


@contextmanager
def poisoned_memory():
    """What is allocated and not written is NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def make(width, dtype, layout, training, **options):
    torch.manual_seed(0)
    block = MoDBlock(width, **{'conv_block': bottleneck, 'r': 4, **options})
    randomize_norms(block)
    return block.to(dtype=dtype, memory_format=layout).train(training)


def run(block, x, way, gradients, overwrite=False):
    """Output and gradients of the input and the parameters, and the buffers' new values."""
    block, x = copy.deepcopy(block), x.detach().clone().requires_grad_(gradients)
    torch.manual_seed(1)  # for random selection
    with torch.set_grad_enabled(gradients), use_backend(way):
        fast = switch.fast_way(block, x) if overwrite else None
        out = block(x) if fast is None else fast(block, x, True)
    tensors = {'out': out.detach(), **dict(block.named_buffers())}
    if gradients:
        weight = torch.randn(out.shape).to(out)
        names, parameters = zip(*block.named_parameters(), strict=True)
        grads = torch.autograd.grad((out * weight).sum(), [x, *parameters])
        tensors.update(zip(('x', *names), grads, strict=True))
    return tensors


def check(actual, expected, tolerance):
    assert actual.keys() == expected.keys()
    for name, tensor in actual.items():
        same = expected[name]
        assert (tensor.shape, tensor.dtype) == (same.shape, same.dtype), name
        size = same.double().square().mean().sqrt()
        error = (tensor.double() - same.double()).square().mean().sqrt()
        assert error <= tolerance * size + 1e-12, (name, error / size)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 3),
    width=st.integers(8, 40),
    c=st.sampled_from([2, 3, 8]),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
    gradients=st.booleans(),
    overwrite=st.booleans(),
    conv_block=st.sampled_from([bottleneck, basic_block, partial(basic_block, dilation=2)]),
    options=st.fixed_dictionaries({key: st.sampled_from(OPTIONS[key]) for key in OPTIONS}),
)
def test_eager_is_the_definition(
    n, width, c, size, dtype, layout, gradients, overwrite, conv_block, options
):
    drop_path = DropEverySecond() if options['fusion'] == 'add' else None
    options = dict(options, c=c, conv_block=conv_block, drop_path=drop_path)
    block = make(width, dtype, layout, training=False, **options)
    x = torch.rand(n, width, *size).to(dtype=dtype, memory_format=layout)
    expected = run(block, x, 'reference', gradients)
    with poisoned_memory():
        actual = run(block, x, 'eager', gradients, overwrite)
    check(actual, expected, TOLERANCE[dtype])


@pytest.mark.parametrize('position', OPTIONS['position'])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_training_mode_and_k_of_one(position, dtype):
    block = make(16, dtype, LAYOUTS[0], training=True, c=16, position=position)
    assert block.k == 1
    x = torch.rand(3, 16, 5, 3).to(dtype)
    check(run(block, x, 'eager', True), run(block, x, 'reference', True), TOLERANCE[dtype])


@pytest.mark.parametrize('gradients', [True, False])
def test_ties_select_the_same_channels(gradients):
    block = make(16, torch.float32, LAYOUTS[0], training=False, c=4)
    nn.init.zeros_(block.selector.fc2.weight)  # all scores are 0.5
    x = torch.rand(2, 16, 3, 3)
    check(run(block, x, 'eager', gradients), run(block, x, 'reference', gradients), 1e-6)


@pytest.mark.parametrize('gradients', [True, False])
def test_autocast(gradients):
    block = make(32, torch.float32, LAYOUTS[1], training=False, c=4)
    x = torch.rand(2, 32, 5, 4).to(memory_format=LAYOUTS[1])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        actual, expected = (run(block, x, way, gradients) for way in ('eager', 'reference'))
    check(actual, expected, TOLERANCE[torch.bfloat16])


@pytest.mark.parametrize('way', ['eager', 'auto'])
def test_every_way_was_tried(way):
    """Or else the parity above would compare the definition with itself."""
    block, x = make(16, torch.float32, LAYOUTS[0], training=False, c=4), torch.rand(2, 16, 3, 3)
    with use_backend(way):
        assert switch.fast_way(block, x) is not None
        with torch.no_grad():
            assert switch.fast_way(block, x) is not None
