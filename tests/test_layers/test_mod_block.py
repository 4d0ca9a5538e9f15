"""The MoD block against the reference, and its use in training."""

import pytest
import torch
from mmcv.cnn import ConvWS2d
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from mmcnnmod.layers import RandomSelector, basic_block, bottleneck

from ..utils.blocks import TORCH, make_block, randomize_norms
from ..utils.reference import reference_mod_block

CONV_BLOCKS = {'bottleneck': bottleneck, 'basic': basic_block}


@pytest.mark.smoke
@pytest.mark.parametrize('conv_block', CONV_BLOCKS)
@pytest.mark.parametrize('position', ['first', 'last', 'original'])
@pytest.mark.parametrize('fusion', ['add', 'replace'])
@pytest.mark.parametrize('training', [True, False])
def test_outputs_and_gradients_equal_the_reference(conv_block, position, fusion, training):
    torch.manual_seed(0)
    block = make_block(conv_block=CONV_BLOCKS[conv_block], position=position, fusion=fusion)
    block.train(training).double()
    randomize_norms(block)
    x = torch.rand(3, 32, 5, 6, dtype=torch.double, requires_grad=True)
    weight = torch.randn(3, 32, 5, 6, dtype=torch.double)
    tensors = [x, *block.parameters()]

    expected = reference_mod_block(block, x)
    expected_grads = torch.autograd.grad((expected * weight).sum(), tensors)
    actual = block(x)
    grads = torch.autograd.grad((actual * weight).sum(), tensors)

    torch.testing.assert_close(actual, expected)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize('n', [0, 1])
@pytest.mark.parametrize('training', [True, False])
def test_empty_and_single_image_batches(n, training):
    block = make_block().train(training)
    x = torch.rand(n, 32, 3, 3, requires_grad=True)
    block(x).sum().backward()
    assert x.grad.shape == x.shape
    assert all(torch.isfinite(tensor).all() for tensor in block.state_dict().values())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_and_half_precision(dtype):
    if dtype is torch.float16 and TORCH < (2, 4):
        pytest.skip('this torch has no fp16 autocast on CPU')
    block = make_block()
    x = torch.rand(2, 32, 4, 4, requires_grad=True)
    with torch.autocast('cpu', dtype=dtype):
        assert block(x).dtype == torch.float32  # the map keeps its dtype
        low = block(x.to(dtype))
    assert low.dtype == dtype
    low.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in block.parameters())
    assert make_block().to(dtype)(torch.rand(2, 32, 4, 4, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(
    'options',
    [{}, {'c': 32}, {'c': 32, 'selection': 'random', 'position': 'last'}, {'fusion': 'replace'}],
)
def test_channels_last_is_kept(options):
    block = make_block(**options).eval()
    x = torch.rand(2, 32, 6, 5)
    out = block.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    if 'selection' not in options:
        torch.testing.assert_close(out, block(x))


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'position': 'original'},
        {'selection': 'random'},
        {'fusion': 'replace', 'position': 'last'},
        {'with_cp': True},
    ],
)
def test_compiles_once_as_one_graph(options):
    if 'with_cp' in options and TORCH < (2, 4):
        pytest.skip('torch 2.1 cannot compile a checkpointed BatchNorm')
    torch._dynamo.reset()
    block = make_block(**options)
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(block, fullgraph=True, dynamic=False, backend=counter)
    for _ in range(3):
        x = torch.rand(2, 32, 4, 4, requires_grad=True)
        compiled(x).sum().backward()
        assert x.grad is not None
    assert counter.frame_count == 1
    if 'selection' not in options:
        block.eval()
        torch.testing.assert_close(compiled(x), block(x))


@pytest.mark.parametrize('selection', ['topk', 'random'])
@pytest.mark.parametrize('kind', ['with_cp', 'reentrant', 'non-reentrant'])
def test_checkpointing_changes_no_gradient(selection, kind):
    torch.manual_seed(0)
    block = make_block(selection=selection)
    x = torch.rand(2, 32, 4, 4, requires_grad=True)
    tensors = [x, *block.parameters()]

    def run():
        torch.manual_seed(1)
        if kind == 'with_cp' or not block.with_cp:
            return block(x)
        return checkpoint(block, x, use_reentrant=kind == 'reentrant')

    results = []
    for block.with_cp in (False, True):
        for tensor in tensors:
            tensor.grad = None
        out = run()
        torch.manual_seed(2)  # the recomputation must not depend on what was drawn since
        (out**2).sum().backward()
        results.append([out.detach(), *(tensor.grad for tensor in tensors)])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(plain, recomputed)


@pytest.mark.parametrize('training', [True, False])
def test_random_selection_differs_per_sample_and_repeats_with_the_seed(training):
    block = make_block(64, selection='random').train(training)
    assert isinstance(block.selector, RandomSelector)
    assert not list(block.selector.parameters())
    x = torch.rand(4, 64, 3, 3)
    torch.manual_seed(3)
    first, second = block.selector(x)[0], block.selector(x)[0]
    torch.manual_seed(3)
    assert torch.equal(block.selector(x)[0], first)
    assert not torch.equal(first, second)
    assert len({tuple(sorted(row)) for row in first.tolist()}) == 4
    assert all(len(set(row)) == 16 for row in first.tolist())


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'c': 33}, ['33', 'width 32', '= 0']),
        ({'c': 0}, ['c must be a positive integer']),
        ({'c': True}, ['c must be a positive integer', 'True']),
        ({'r': 33}, ['r=33', 'width 32', 'c=4']),
        ({'r': 4.0}, ['r must be a positive integer', '4.0']),
        ({'position': 'middle'}, ['middle', 'first, last, original']),
        ({'fusion': 'mul'}, ['mul', 'add, replace']),
        ({'selection': 'best'}, ['best', 'topk, random']),
        ({'fusion': 'replace', 'drop_path': torch.nn.Dropout(0.1)}, ['drop_path_rate=0']),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=r'^stage 2 \(width 32, c=[^\n]*$') as error:
        make_block(name='stage 2', **options)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize('shape', [(2, 31, 4, 4), (32, 4, 4), (2, 32, 4), (2, 4, 4, 32)])
def test_wrong_input_shape(shape):
    with pytest.raises(
        AssertionError, match=r'^stage 1 \(width 32, c=4\): expected [^\n]*32, H, W\)$'
    ):
        make_block(name='stage 1')(torch.rand(shape))


@pytest.mark.parametrize(
    'conv_cfg', [None, {'type': 'ConvWS'}, {'type': 'ConvAWS'}, {'type': ConvWS2d}]
)
@pytest.mark.parametrize(
    'norm_cfg',
    [
        {'type': 'BN'},
        {'type': nn.BatchNorm2d},
        {'type': 'GN', 'num_groups': 32},
        {'type': nn.GroupNorm, 'num_groups': 32},
        {'type': 'torch.nn.GroupNorm', 'num_groups': 32},
    ],
)
@pytest.mark.parametrize('k', [1, 2, 4, 6])
def test_conv_blocks_of_any_width_and_config(conv_cfg, norm_cfg, k):
    for build in CONV_BLOCKS.values():
        out = build(k, conv_cfg=conv_cfg, norm_cfg=norm_cfg)(torch.rand(2, k, 5, 5))
        assert out.shape == (2, k, 5, 5)
        assert torch.isfinite(out).all()
