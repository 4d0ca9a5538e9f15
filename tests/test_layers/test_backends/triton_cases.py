"""The Triton kernels against the definition; run by test_triton_block.py, in a process of its own.

That is because Triton's interpreter must be switched on before Triton is imported, and then is on
for everything. Without TRITON_INTERPRET=1 the same tests run on a GPU.
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmcnnmod.layers import MoDBlock, basic_block, bottleneck, inverted_residual, plain_conv
from mmcnnmod.layers.backends import triton_block as triton
from mmcnnmod.layers.fusion import per_sample

DEVICE = 'cpu' if triton.INTERPRETED else 'cuda'
CONV_BLOCKS = {'bottleneck': bottleneck, 'basic': basic_block}
TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
LAYOUTS = {
    'contiguous': lambda x: x,
    'channels last': lambda x: x.contiguous(memory_format=torch.channels_last),
    'every second channel': lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    'every second channel, channels last': lambda x: x.repeat_interleave(2, dim=1).contiguous(
        memory_format=torch.channels_last
    )[:, ::2],
    'channels before samples': lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
}
on_cuda = pytest.mark.skipif(DEVICE != 'cuda', reason='needs a GPU')


@pytest.fixture(autouse=True)
def exact_float32():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with torch.no_grad():
        yield


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """Whatever is allocated without values is full of traps."""

    def poisoned(allocate):
        def allocate_poisoned(*args, **kwargs):
            tensor = allocate(*args, **kwargs)
            return tensor.fill_(float('nan') if tensor.is_floating_point() else 12345)

        return allocate_poisoned

    monkeypatch.setattr(torch, 'empty_like', poisoned(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, 'new_empty', poisoned(torch.Tensor.new_empty))


def make(width=16, conv_block='bottleneck', c=8, dtype=torch.float32, dilation=1, **options):
    """A block in eval mode whose norms do something."""
    conv_block = partial(CONV_BLOCKS[conv_block], dilation=dilation)
    block = MoDBlock(width, conv_block, c=c, r=4, **options).eval()
    for name, tensor in block.state_dict().items():
        if 'bn.' in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return block.to(DEVICE, dtype)


def rand(*shape, dtype=torch.float32):
    # From a generator on the CPU, so that a GPU sees what the interpreter sees.
    return torch.rand(shape).to(DEVICE, dtype)


def check(block, x, overwrite=False):
    """Compare with the definition; the channels are the kernels', if they are among the best."""
    assert triton.why_not(block, x) is None
    kept = x.clone()
    index, scores = triton.launch_selector(block.selector, x, None)
    check_selection(block.selector, kept, index, scores)
    actual = triton.forward(block, x, overwrite)
    assert (actual is x) == overwrite
    assert overwrite or torch.equal(x, kept)
    assert actual.stride() == (x if overwrite else x.clone()).stride()

    processed = block.conv_block(kept[per_sample(index.long())])
    weight = scores.to(processed.dtype)[:, :, None, None]
    expected = block.fusion(kept, processed * weight, index.long())
    fused = torch.zeros(x.shape, dtype=torch.bool, device=DEVICE)
    fused[block.fusion.places(index.long())] = True
    assert torch.equal(actual[~fused], kept[~fused])
    error = (actual[fused].double() - expected[fused].double()).norm()
    assert error <= TOLERANCES[x.dtype] * expected[fused].double().norm()
    if x.dtype == torch.float32 and torch.equal(block.selector(kept)[0], index):
        torch.testing.assert_close(actual, block(kept), rtol=1e-4, atol=1e-5)
    return actual


def check_selection(selector, x, index, scores):
    pooled = x.double().mean(dim=(2, 3))
    hidden = (pooled @ selector.fc1.weight.double().T).relu()
    all_scores = (hidden @ selector.fc2.weight.double().T).sigmoid()
    torch.testing.assert_close(all_scores.gather(1, index.long()).float(), scores)
    best = all_scores.topk(selector.k, dim=1).values.float()
    torch.testing.assert_close(scores.sort(dim=1, descending=True).values, best)
    assert all(len(set(row)) == selector.k for row in index.tolist())
    keys = index if selector.order == 'index' else -scores
    assert (keys[:, :-1] <= keys[:, 1:]).all()


# The interpreter takes about a second for an example.
@settings(
    max_examples=14 if triton.INTERPRETED else 300,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # there shrinking takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_shape_option_and_dtype(data):
    draw = data.draw
    k, c = draw(st.integers(1, 3)), draw(st.integers(4, 9))
    block = make(
        k * c + draw(st.integers(0, c - 1)),
        draw(st.sampled_from(sorted(CONV_BLOCKS))),
        c=c,
        dtype=draw(st.sampled_from(list(TOLERANCES))),
        dilation=draw(st.integers(1, 2)),
        position=draw(st.sampled_from(['first', 'last', 'original'])),
        fusion=draw(st.sampled_from(['add', 'replace'])),
        last_activation=draw(st.sampled_from(['before', 'after'])),
        order=draw(st.sampled_from(['score', 'index'])),
    )
    shape = (draw(st.integers(1, 3)), block.in_channels)
    shape += (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    x = rand(*shape, dtype=block.selector.fc1.weight.dtype) - 0.2
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    check(block.to(memory_format=draw(MEMORY_FORMATS)), LAYOUTS[layout](x), draw(st.booleans()))


MEMORY_FORMATS = st.sampled_from([torch.contiguous_format, torch.channels_last])


@pytest.mark.parametrize('layout', ['contiguous', 'channels last'])
def test_several_tiles_and_shares(layout):
    block = make(70, c=70)
    check(block, LAYOUTS[layout](rand(1, 70, 19, 31)), overwrite=True)


@pytest.mark.parametrize(('conv_block', 'width'), [('bottleneck', 65), ('basic', 22)])
def test_many_channels_on_one_pixel(conv_block, width):
    check(make(width, conv_block, c=2, dtype=torch.bfloat16), rand(1, width, 1, 1).bfloat16())


def test_convolutions_without_norms():
    block = make()
    for layer in block.conv_block:  # as after folding
        layer.conv.bias = nn.Parameter(torch.rand(layer.conv.out_channels, device=DEVICE))
        layer.bn = nn.Identity()
    check(block, rand(1, 16, 3, 3))


def test_equal_scores():
    block = make(c=4)
    block.selector.fc2.weight.zero_()
    x = rand(2, 16, 2, 2)
    index, scores = triton.launch_selector(block.selector, x, None)
    assert index.tolist() == [[0, 1, 2, 3]] * 2
    assert (scores == 0.5).all()
    check(block, x)


def test_nan_stays_in_its_sample():
    block = make(c=4)
    x = rand(2, 16, 2, 2)
    expected = triton.forward(block, x)
    x[0, 5] = float('nan')
    index, _ = triton.launch_selector(block.selector, x, None)
    assert sorted(index[0].tolist()) == sorted(set(index[0].tolist()) & set(range(16)))
    actual = triton.forward(block, x)
    assert actual[0, :4].isnan().all()  # as in the definition
    assert block(x)[0, :4].isnan().all()
    assert torch.equal(actual[1], expected[1])


def test_a_sample_does_not_depend_on_its_batch():
    block = make()
    x = rand(3, 16, 4, 5)
    assert torch.equal(triton.forward(block, x)[1:2], triton.forward(block, x[1:2]))


def test_changed_weights_are_seen():
    block = make()
    x = rand(1, 16, 3, 3)
    before = check(block, x)
    # By .data, as mmengine's EMAHook does it: no version counter tells.
    block.conv_block[-1].bn.weight.data.mul_(2)
    assert not torch.equal(check(block, x), before)
    block.load_state_dict(make().state_dict())
    check(block, x)


def test_overwriting_is_told_to_autograd():
    x = rand(1, 16, 2, 2)
    version = x._version
    triton.forward(make(), x, overwrite=True)
    assert x._version > version
    with torch.inference_mode():
        check(make(), rand(1, 16, 2, 2), overwrite=True)


def test_four_launches_and_nothing_else(monkeypatch):
    launches, operations = [], set()

    class Kernel:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            return lambda *args, **kwargs: launches.append(self.name)

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            operations.add(str(function))
            return function(*args, **(kwargs or {}))

    monkeypatch.undo()
    names = ('pool', 'select', 'enter', 'leave')
    kernels = SimpleNamespace(**{name: Kernel(name) for name in names})
    monkeypatch.setattr(triton, 'load_kernels', lambda: kernels)
    block, x = make(), rand(2, 16, 4, 4)
    with torch.no_grad(), Watch():
        triton.forward(block, x)
    assert launches == list(names)
    assert operations == {'aten.empty_like.default', 'aten.new_empty.default'}


def make_other(conv_block, width=16, c=8, **options):
    return MoDBlock(width, conv_block, c=c, r=4, **options).eval().to(DEVICE)


def with_hook(block):
    block.selector.register_forward_hook(lambda *args: None)
    return block


def with_turned_weight(block):
    fc1 = block.selector.fc1
    fc1.weight.data = fc1.weight.data.T.contiguous().T
    return block


BLOCKS = {
    'a weight is torch.float64': lambda: make(dtype=torch.float64),
    'training mode': lambda: make().train(),
    'a forward hook': lambda: with_hook(make()),
    'not contiguous': lambda: with_turned_weight(make()),
    'RandomSelector': lambda: make(selection='random'),
    'activation is SiLU': lambda: make_other(partial(bottleneck, act_cfg=dict(type='SiLU'))),
    'norm is GroupNorm': lambda: make_other(
        partial(bottleneck, norm_cfg=dict(type='GN', num_groups=1))
    ),
    'activation is ReLU6': lambda: make_other(partial(inverted_residual, hidden_channels=4)),
    'no plain convolution': lambda: make_other(partial(basic_block, conv_cfg=dict(type='ConvWS'))),
    'neither a basic block nor a bottleneck': lambda: make_other(plain_conv),
    '33 channels wide': lambda: make(66, c=2),
    '2056 channels wide': lambda: make(2056, c=512),
}


@pytest.mark.parametrize('words', BLOCKS)
def test_blocks_that_are_not_covered(words):
    block = BLOCKS[words]()
    reason = triton.why_not(block, rand(1, block.in_channels, 2, 2))
    assert words in reason
    assert '\n' not in reason


INPUTS = {
    'float64': lambda x: x.double(),
    'is empty': lambda x: x[:0],
    "of the block's width": lambda x: x[:, :8],
    'no map': lambda x: x[0],
    'rows do not follow': lambda x: x[..., :2],
    'expanded': lambda x: x[:1].expand(2, -1, -1, -1),
    'on meta': lambda x: x.to('meta'),
    'is a Parameter': nn.Parameter,
}


@pytest.mark.parametrize('words', INPUTS)
def test_inputs_that_are_not_covered(words):
    assert words in triton.why_not(make(), INPUTS[words](rand(2, 16, 4, 4)))


def test_situations_that_are_not_covered(monkeypatch):
    block, x = make(), rand(2, 16, 4, 4)
    with torch.enable_grad():
        assert triton.why_not(block, x) == 'gradients are wanted'
        assert triton.why_not(block.requires_grad_(False), x) is None
        assert triton.why_not(block, x.requires_grad_()) == 'gradients are wanted'
    reasons = []
    torch.func.vmap(lambda x: reasons.append(triton.why_not(block, x)) or x)(x[None])
    torch.jit.trace(lambda x: reasons.append(triton.why_not(block, x)) or x, x, check_trace=False)
    assert ['torch.func' in reasons[0], 'traced' in reasons[1]] == [True, True]
    monkeypatch.setattr(triton, 'LAST_ADDRESS', 254)
    assert '32-bit' in triton.why_not(block, x)
    monkeypatch.setattr(triton, 'OLDEST_TRITON', (1000, 0))
    triton.device_problem.cache_clear()
    monkeypatch.setattr(triton, 'LAST_ADDRESS', 255)
    assert 'is too old' in triton.why_not(block, x)
    triton.device_problem.cache_clear()


@on_cuda
@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('layout', ['contiguous', 'channels last'])
@pytest.mark.parametrize('overwrite', [True, False])
@pytest.mark.parametrize(
    ('conv_block', 'width', 'side'),
    [('bottleneck', 256, 56), ('bottleneck', 512, 28), ('bottleneck', 1024, 14),
     ('bottleneck', 2048, 7), ('basic', 64, 56), ('basic', 128, 28), ('basic', 512, 7),
     ('bottleneck', 256, 301)],
)  # fmt: skip
def test_sizes_of_resnets(conv_block, width, side, layout, dtype, overwrite):
    block = make(width, conv_block, c=64, dtype=dtype)
    for n in (1, 2, 64 if side < 100 else 3):
        check(block, LAYOUTS[layout](rand(n, width, side, side + n, dtype=dtype)), overwrite)


@on_cuda
@pytest.mark.parametrize('overwrite', [True, False])
def test_a_cuda_graph_records_it(overwrite):
    block = make(256, c=64)
    x = torch.zeros(2, 256, 9, 9, device=DEVICE)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        triton.forward(block, x.clone(), overwrite)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = triton.forward(block, x, overwrite)
    for _ in range(3):
        fresh = rand(2, 256, 9, 9)
        x.copy_(fresh)
        graph.replay()
        torch.testing.assert_close(out, block(fresh), rtol=1e-4, atol=1e-5)
        block.conv_block[-1].bn.weight.mul_(1.5)  # no copy of the weights is recorded


@on_cuda
def test_nothing_waits_for_the_device():
    block, x = make(), rand(2, 16, 4, 4)
    triton.forward(block, x)
    torch.cuda.set_sync_debug_mode('error')
    try:
        assert triton.why_not(block, x) is None
        triton.forward(block, x)
    finally:
        torch.cuda.set_sync_debug_mode('default')


@on_cuda
def test_it_is_deterministic():
    block, x = make(256, c=64), rand(32, 256, 57, 55)
    first = triton.forward(block, x)
    assert all(torch.equal(triton.forward(block, x), first) for _ in range(20))
