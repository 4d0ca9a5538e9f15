"""The native operator against the definition, in eager mode and compiled."""

import copy
import gc
import shutil
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from mmcnnmod.layers import (
    MoDBlock,
    basic_block,
    become_mod_stage,
    bottleneck,
    convnext_block,
    inverted_residual,
    plain_conv,
    use_backend,
)
from mmcnnmod.layers.backends import native_block, native_operator, switch
from mmcnnmod.layers.channel_selector import ChannelSelector

needs_operator = pytest.mark.usefixtures('operator')
needs_dynamo = pytest.mark.skipif(native_block.OLD_TORCH, reason='torch is old')
FORMATS = {'contiguous': torch.contiguous_format, 'channels last': torch.channels_last}
CONV_BLOCKS = {
    'bottleneck': bottleneck,
    'basic': basic_block,
    'dilated': partial(basic_block, dilation=3),
    'plain': plain_conv,
}


@pytest.fixture(scope='session')
def operator():
    """Compiled once; a machine with a compiler has to be able to."""
    if shutil.which('c++') is None or shutil.which('ninja') is None:
        pytest.skip('no C++ compiler, or no ninja')
    assert native_operator.build_problem() is None


@pytest.fixture(autouse=True)
def no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def make(width=24, conv_block=bottleneck, folded=False, c=6, **options):
    """A block in eval mode whose norms do something."""
    block = MoDBlock(width, conv_block, c=c, r=4, **options).eval()
    for name, tensor in block.state_dict().items():
        if 'bn.' in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
        if 'bn.running_mean' in name:
            tensor.sub_(1)
    if folded:
        block.switch_to_deploy()
    return block


def check(block, x, overwrite=False):
    """Compare the k channels with the definition, and the others with the input."""
    assert native_block.why_not(block, x) is None
    expected, given = block.define(x), x.clone()
    out = native_block.forward(block, x, overwrite)
    assert (out is x) == overwrite
    assert overwrite or torch.equal(x, given)
    assert out.stride() == x.stride()
    k = block.k
    where = slice(-k, None) if block.fusion.position == 'last' else slice(k)
    added = (expected - given)[:, where].norm()
    assert added > 0.01 * given[:, where].norm()  # or there would be nothing to compare
    assert (out - expected)[:, where].norm() <= 1e-5 * added
    out[:, where] = given[:, where]
    assert torch.equal(out, given)


@needs_operator
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('conv_block', CONV_BLOCKS)
@pytest.mark.parametrize('folded', [True, False])
def test_parity(layout, conv_block, folded):
    for n, width, c, height, width_of_map, position in [
        (1, 24, 6, 7, 5, 'first'),
        (5, 24, 24, 1, 1, 'first'),
        (1, 30, 30, 9, 4, 'last'),
        (5, 64, 4, 3, 6, 'last'),
        (2, 17, 5, 1, 8, 'first'),
        (1, 40, 8, 41, 37, 'first'),  # several shares and tiles, on several threads
    ]:
        block = make(width, CONV_BLOCKS[conv_block], folded, c, position=position)
        block.to(memory_format=FORMATS[layout])
        x = torch.rand(n, width, height, width_of_map).sub(0.3)
        check(block, x.to(memory_format=FORMATS[layout]), overwrite=n == 1)


@needs_operator
@pytest.mark.parametrize('layout', FORMATS)
def test_large_maps_are_shared_among_threads(layout):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for n in (1, 4):
            block, x = make(96, c=6), torch.rand(n, 96, 75, 67).to(memory_format=FORMATS[layout])
            check(block, x)
            alone = native_block.forward(block, x[:1].contiguous(memory_format=FORMATS[layout]))
            torch.testing.assert_close(native_block.forward(block, x)[:1], alone)
    finally:
        torch.set_num_threads(threads)


@needs_operator
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('position', ['first', 'last'])
def test_selected_channels_may_be_those_that_are_added_to(layout, position):
    block = make(12, c=3, position=position)
    x = torch.rand(3, 12, 5, 6).to(memory_format=FORMATS[layout])
    x[:, :4] += 3
    x[:, -4:] += 3
    block.selector.fc1.weight.fill_(1)
    block.selector.fc2.weight.fill_(-1)
    block.selector.fc2.weight[[1, 3, 9, 11]] = torch.tensor([[1.0], [2], [3], [4]])
    assert block.selector(x)[0].tolist() == [[11, 9, 3, 1]] * 3
    check(block, x, overwrite=True)


@needs_operator
@pytest.mark.parametrize('layout', FORMATS)
def test_nan_ranks_highest_and_stays_in_its_sample(layout):
    block = make(12, c=3)
    x = torch.rand(2, 12, 4, 3).to(memory_format=FORMATS[layout])
    clean = native_block.forward(block, x)
    x[0, 5, 2, 1] = torch.nan
    out = native_block.forward(block, x)
    assert out[0, :4].isnan().all()
    assert block.define(x)[0, :4].isnan().all()
    torch.testing.assert_close(out[1], clean[1])

    block.selector.fc2.weight[7] = torch.nan  # one logit; its channel is selected first
    x = torch.rand(1, 12, 4, 3)
    assert block.selector(x)[0][0, 0] == 7
    assert native_block.forward(block, x).isnan().equal(block.define(x).isnan())


@needs_operator
def test_relu_at_the_end_is_optional():
    block = make()
    block.conv_block[-1].with_activation = False
    check(block, torch.rand(2, 24, 4, 4))


@needs_operator
def test_empty_maps():
    for shape in [(0, 24, 4, 4), (2, 24, 0, 3)]:
        assert native_block.forward(make(), torch.rand(shape)).shape == shape


@needs_operator
def test_overwriting_is_told_to_autograd():
    block, x = make(), torch.rand(1, 24, 2, 2)
    version = x._version
    native_block.forward(block, x, overwrite=True)
    assert x._version == version + 1
    with torch.inference_mode():
        check(block, torch.rand(1, 24, 2, 2), overwrite=True)


@needs_operator
def test_it_is_taken_where_it_is_asked_for(monkeypatch):
    block, x, taken = make(), torch.rand(1, 24, 3, 3), []
    forward = native_block.forward
    monkeypatch.setattr(native_block, 'forward', lambda *args: taken.append(args) or forward(*args))
    block(x)
    assert not taken
    with use_backend('native'):
        torch.testing.assert_close(block(x), block.define(x))
        assert native_block.is_ready(block, x)
        block(x)
    block.backend = 'native'
    block(x)
    assert len(taken) == 3


def with_hook(block):
    block.conv_block[0].conv.register_forward_hook(lambda *args: None)


def with_own_forward(block):
    block.selector.fc1.forward = lambda x: x


def with_other_eps(block):
    block.conv_block[0].bn.eps = 1


def with_first_activation_off(block):
    block.conv_block[0].with_activation = False


BLOCKS = {
    'scores': lambda: make(selection='random'),
    'by their scores': lambda: make(order='index'),
    'the first or the last': lambda: make(position='original'),
    'does not add': lambda: make(fusion='replace'),
    'follows the fusion': lambda: make(last_activation='after'),
    'training mode': lambda: make().train(),
    'no sequence': lambda: make(conv_block=lambda k: nn.Conv2d(k, k, 1)),
    'no plain convolution': lambda: make(conv_block=partial(convnext_block, norm=nn.BatchNorm2d)),
    'not ReLU': lambda: make(conv_block=partial(bottleneck, act_cfg=dict(type='SiLU'))),
    'activation is ReLU6': lambda: make(conv_block=partial(inverted_residual, hidden_channels=8)),
    'norm is GroupNorm': lambda: make(
        conv_block=partial(basic_block, norm_cfg=dict(type='GN', num_groups=1))
    ),
    'wide': lambda: make(130, c=2),
}
CHANGES = {
    'the block is in training mode': lambda block: block.conv_block[1].bn.train(),
    'the calls of one': with_hook,
    'calls of': with_own_forward,
    'differ in eps': with_other_eps,
    'without activation': with_first_activation_off,
    'torch.float64': lambda block: block.double(),
    'torch.float16, not': lambda block: block.selector.half(),
    'not BatchNorm': lambda block: block.conv_block[2].register_module('bn', nn.InstanceNorm2d(4)),
    'no plain': lambda block: setattr(block.conv_block[1].conv, 'padding_mode', 'reflect'),
}


@pytest.mark.parametrize('words', BLOCKS)
def test_blocks_that_are_not_covered(words):
    block = BLOCKS[words]()
    reason = native_block.why_not(block, torch.rand(1, block.in_channels, 2, 2))
    assert words in reason
    assert '\n' not in reason


@needs_operator
@pytest.mark.parametrize('words', CHANGES)
def test_changes_are_seen(words):
    block, x = make(), torch.rand(1, 24, 2, 2)
    native_block.forward(block, x)
    assert native_block.is_ready(block, x)
    CHANGES[words](block)
    assert not native_block.is_ready(block, x)
    assert words in native_block.why_not(block, x)


@needs_operator
def test_changed_weights_are_seen():
    block, x = make(), torch.rand(1, 24, 3, 3)
    with use_backend('native'):
        before = block(x)
        # By .data, as mmengine's EMAHook does it: no version counter tells.
        block.conv_block[-1].bn.weight.data.mul_(2)
        assert not torch.equal(block(x), before)
        torch.testing.assert_close(block(x), block.define(x))
        block.selector.fc1.weight = nn.Parameter(torch.randn(6, 24))
        block.conv_block[1].bn.running_mean = torch.randn(1)
        torch.testing.assert_close(block(x), block.define(x))
        block.switch_to_deploy()
        torch.testing.assert_close(block(x), block.define(x))
        block.conv_block[0] = copy.deepcopy(block.conv_block[0])
        block.conv_block[0].conv.weight.mul_(3)
        torch.testing.assert_close(block(x), block.define(x))


@needs_operator
def test_blocks_are_not_kept_alive():
    block = make()
    native_block.forward(block, torch.rand(1, 24, 2, 2))
    gone = weakref.ref(block)
    del block
    gc.collect()
    assert gone() is None


INPUTS = {
    'on meta': lambda x: x.to('meta'),
    'torch.float64, not': lambda x: x.double(),
    'neither contiguous': lambda x: x[..., ::2],
}


@pytest.mark.parametrize('words', INPUTS)
def test_inputs_that_are_not_covered(words):
    assert words in native_block.why_not(make(), INPUTS[words](torch.rand(1, 24, 4, 4)))


@needs_operator
def test_situations_that_are_not_covered():
    block, x = make(), torch.rand(1, 24, 4, 4)
    native_block.forward(block, x)
    with torch.autocast('cpu', torch.bfloat16):
        assert not native_block.is_ready(block, x)
        assert native_block.why_not(block, x) == 'autocast is on'
    with torch.enable_grad():
        assert not native_block.is_ready(block, x)
        assert native_block.why_not(block, x) == 'gradients are wanted'
        block.requires_grad_(False)
        assert native_block.is_ready(block, x)
        assert native_block.why_not(block, x) is None
        assert native_block.why_not(block, x.requires_grad_()) == 'gradients are wanted'
    handle = nn.modules.module.register_module_forward_hook(lambda *args: None)
    assert 'global forward hook' in native_block.why_not(block, x.detach())
    assert not native_block.is_ready(block, x.detach())
    handle.remove()


def test_a_build_that_fails_is_a_reason(monkeypatch):
    from torch.utils import cpp_extension

    def fail(*args, **kwargs):
        raise RuntimeError('Error building extension\n[1/2] c++ ...\nx.cpp:1: error: no room\nend')

    monkeypatch.setattr(cpp_extension, 'load', fail)
    afresh = native_operator.load_operator.__wrapped__  # past the cache of what was loaded
    monkeypatch.setattr(native_operator, 'load_operator', afresh)
    reason = native_block.why_not(make(), torch.rand(1, 24, 2, 2))
    assert reason == 'it could not be built: x.cpp:1: error: no room'


def make_stage():
    class Standard(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(24, 24, 1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.conv(x) + x)

    stage = nn.Sequential(Standard(), make(), make(folded=True), Standard())
    become_mod_stage(stage)
    return stage.eval()


@needs_operator
@needs_dynamo
def test_one_graph_for_all_batches_of_a_shape():
    torch._dynamo.reset()
    graphs, stage = [], make_stage()

    def compiler(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(stage, backend=compiler, fullgraph=True, dynamic=False)
    with use_backend('native'):
        for _ in range(3):
            x = torch.rand(2, 24, 4, 3)
            kept = x.clone()
            torch.testing.assert_close(compiled(x), stage(x))
            assert torch.equal(x, kept)
    (graph,) = graphs
    assert [str(node.target) for node in graph.graph.nodes].count('mmcnnmod.mod_block_') == 2


@needs_operator
@needs_dynamo
def test_compilers_hear_why_not_once(monkeypatch):
    torch._dynamo.reset()
    said, block, x = [], make(order='index'), torch.rand(1, 24, 2, 2)
    monkeypatch.setattr(switch, 'print_log', lambda line, **kwargs: said.append(line))
    switch.said.clear()
    with use_backend('native'):
        out = torch.compile(block, backend='eager', fullgraph=True)(x)
    torch.testing.assert_close(out, block.define(x))
    assert [line.rsplit(': ')[-1] for line in said] == [
        'the selector does not hand on the channels by their scores'
    ]
    switch.said.clear()


@needs_operator
@needs_dynamo
@pytest.mark.parametrize('strict', [True, False])
def test_exporters_get_the_definition(strict):
    torch._dynamo.reset()
    block, x = make(), torch.rand(1, 24, 4, 3)
    with use_backend('native'):
        program = torch.export.export(block, (x,), strict=strict)
    assert not any('mmcnnmod' in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), block.define(x))


def test_the_selector_is_known():
    """A subclass may compute anything."""
    block = make()
    block.selector = type('Own', (ChannelSelector,), {})(24, 4, 4).eval()
    assert 'scores' in native_block.why_not(block, torch.rand(1, 24, 2, 2))
