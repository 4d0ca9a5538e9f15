"""The deployed MoD block against the MoD block, with the operator and in plain PyTorch."""

import copy
import pickle
from functools import partial

import pytest
import torch
from mmcv.cnn import ConvModule, is_norm
from mmcv.cnn.bricks import DropPath
from torch import nn

from mmcnnmod.deploy.onnx_file import traced
from mmcnnmod.layers import (
    Fusion,
    MoDBlock,
    basic_block,
    bottleneck,
    convnext_block,
    inverted_residual,
    plain_conv,
)
from mmcnnmod.ops import DeployedMoDBlock, deployed_block, operator_problem

from ..utils.blocks import TORCH, TRACERS, make_eval_block, saturate

FORMATS = {'contiguous': torch.contiguous_format, 'channels last': torch.channels_last}
CONV_BLOCKS = {
    'bottleneck': bottleneck,
    'basic': basic_block,
    'dilated': partial(basic_block, dilation=3),
    'plain': plain_conv,
    'without norm': partial(plain_conv, norm_cfg=None),
}
needs_dynamo = pytest.mark.skipif(TORCH < (2, 4), reason='torch.compile has no operator')


@pytest.fixture(autouse=True)
def no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def make(width=24, conv_block=bottleneck, c=6, **options):
    return make_eval_block(width, conv_block, c=c, **options)


def deploy(block, inplace=True):
    return DeployedMoDBlock(copy.deepcopy(block), inplace)


def assert_same_as_plain_block(block, x, inplace=True, uses_operator=True):
    """Compare the k channels with the MoD block's output, and the others with the input."""
    deployed = deploy(block, inplace)
    assert deployed.is_supported(x) is uses_operator
    expected, original = block(x), x.clone()
    out = deployed(x)
    assert (out is x) is inplace
    assert inplace or torch.equal(x, original)
    assert out.stride() == original.stride()
    fused = slice(-block.k, None) if block.fusion.position == 'last' else slice(block.k)
    added = (expected - original)[:, fused].norm()
    assert added > 0.01 * original[:, fused].norm()  # otherwise there is nothing to compare
    assert (out - expected)[:, fused].norm() <= 1e-5 * added
    out[:, fused] = original[:, fused]
    assert torch.equal(out, original)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('conv_block', CONV_BLOCKS)
def test_operator_computes_the_mod_block(layout, conv_block):
    for batch, channels, c, height, width, position in [
        (1, 24, 6, 7, 5, 'first'),
        (5, 24, 24, 1, 1, 'first'),
        (1, 30, 30, 9, 4, 'last'),
        (5, 64, 4, 3, 6, 'last'),
        (2, 17, 5, 1, 8, 'first'),
        (1, 40, 8, 41, 37, 'first'),  # several shares and tiles, on several threads
    ]:
        block = make(channels, CONV_BLOCKS[conv_block], c, position=position)
        block.to(memory_format=FORMATS[layout])
        x = torch.rand(batch, channels, height, width).sub(0.3)
        x = x.to(memory_format=FORMATS[layout])
        assert_same_as_plain_block(block, x, inplace=batch == 1)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('layout', FORMATS)
def test_large_maps_on_several_threads(layout):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        block = make(96, c=6)
        for batch in (1, 4):
            x = torch.rand(batch, 96, 75, 67).to(memory_format=FORMATS[layout])
            first = x[:1].contiguous(memory_format=FORMATS[layout])
            assert_same_as_plain_block(block, x.clone())
            torch.testing.assert_close(deploy(block)(x)[:1], deploy(block)(first))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('position', ['first', 'last'])
def test_selected_channels_are_among_the_fused_channels(layout, position):
    block = make(12, c=3, position=position)
    x = torch.rand(3, 12, 5, 6).to(memory_format=FORMATS[layout])
    x[:, :4] += 3
    x[:, -4:] += 3
    block.selector.fc1.weight.fill_(1)
    block.selector.fc2.weight.fill_(-1)
    block.selector.fc2.weight[[1, 3, 9, 11]] = torch.tensor([[1.0], [2], [3], [4]])
    assert block.selector(x)[0].tolist() == [[11, 9, 3, 1]] * 3
    assert_same_as_plain_block(block, x)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('c', [4, 64])  # many channels and few
def test_saturated_scores_select_the_highest_logits(layout, c):
    block = make(128, c=c)
    highest = saturate(block.selector)
    x = torch.rand(2, 128, 4, 3).to(memory_format=FORMATS[layout])
    index, scores = block.selector(x)
    assert index.tolist() == [highest] * 2
    assert (scores == 1).all()
    assert_same_as_plain_block(block, x)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('levels', [1, 4])
@pytest.mark.parametrize('c', [4, 64])
def test_equal_logits_select_the_lower_channels(c, levels):
    """torch.topk does not define this, so the expected selection is a stable sort."""
    block = make(128, c=c)
    level = torch.randint(levels, (128,)) - 1.0
    block.selector.fc1.weight.zero_()[0] = 1
    block.selector.fc2.weight.zero_()[:, 0] = level
    x = torch.rand(2, 128, 4, 3)
    logits, index = block.selector.logits(x).sort(dim=1, descending=True, stable=True)
    expected, k = copy.deepcopy(block), block.k
    expected.selector.forward = lambda x: (index[:, :k], logits[:, :k].sigmoid())
    torch.testing.assert_close(deploy(block)(x.clone()), expected(x))


PROGRAM = """if True:
    import copy, sys, torch
    from mmcnnmod.ops import DeployedMoDBlock
    from tests.utils.blocks import make_eval_block, saturate, turn_off
    torch.set_num_threads(int(sys.argv[1]))
    results = []
    for change in (saturate, turn_off):
        torch.manual_seed(0)
        block = make_eval_block(128, c=8)
        change(block.selector)
        x = torch.rand(3, 128, 9, 7)
        with torch.no_grad():
            deployed = DeployedMoDBlock(copy.deepcopy(block))
            results += [*block.selector(x), block(x), deployed(x)]
    torch.save(results, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.usefixtures('operator')
def test_selection_does_not_depend_on_process_and_threads(run_python, tmp_path):
    results = []
    for threads in (1, 3):
        path = tmp_path / f'{threads}.pth'
        result = run_python('-c', PROGRAM, threads, path)
        assert result.returncode == 0, result.stderr
        results.append(torch.load(path))
    assert results[0][0].tolist() == [saturate(make(128, c=8).selector)] * 3
    torch.testing.assert_close(*results)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('layout', FORMATS)
def test_nan_ranks_highest_and_stays_in_its_sample(layout):
    block = make(12, c=3)
    deployed = deploy(block, inplace=False)
    x = torch.rand(2, 12, 4, 3).to(memory_format=FORMATS[layout])
    clean = deployed(x)
    x[0, 5, 2, 1] = torch.nan
    out = deployed(x)
    assert out[0, :4].isnan().all()
    assert block(x)[0, :4].isnan().all()
    torch.testing.assert_close(out[1], clean[1])

    block.selector.fc2.weight[7] = torch.nan  # one logit; its channel is selected first
    x = torch.rand(1, 12, 4, 3)
    assert block.selector(x)[0][0, 0] == 7
    assert deploy(block, inplace=False)(x).isnan().equal(block(x).isnan())


@pytest.mark.usefixtures('operator')
def test_last_relu_is_optional():
    block = make()
    block.conv_block[-1].with_activation = False
    assert_same_as_plain_block(block, torch.rand(2, 24, 4, 4))


@pytest.mark.parametrize('shape', [(0, 24, 4, 4), (2, 24, 0, 3)])
def test_empty_maps(shape):
    assert deploy(make())(torch.rand(shape)).shape == shape


@pytest.mark.usefixtures('operator')
def test_operator_bumps_the_version_of_the_map():
    x = torch.rand(1, 24, 2, 2)
    version = x._version
    deploy(make())(x)
    assert x._version == version + 1
    with torch.inference_mode():
        assert_same_as_plain_block(make(), torch.rand(1, 24, 2, 2))


class Halving(nn.Module):
    def forward(self, x):
        return x / 2


class Doubling(Fusion):
    """A custom fusion."""

    def forward(self, x, processed, index):
        return super().forward(x, 2 * processed, index)


class AddingInput(MoDBlock):
    """A custom block that reads its input after the fusion."""

    def forward(self, x):
        return super().forward(x) + x


def replace(name, value):
    """Returns a function that replaces an attribute in a block, such as 'selector.fc1'."""
    container, _, attribute = name.rpartition('.')
    return lambda block: setattr(block.get_submodule(container), attribute, value)


def quantize_selector(block):
    torch.ao.quantization.quantize_dynamic(block.selector, {nn.Linear}, inplace=True)


def add_hook(name):
    """Returns a function that adds a forward hook, which changes the output."""
    return lambda block: block.get_submodule(name).register_forward_hook(
        lambda module, inputs, out: 3 * out
    )


def conv_block(build, **options):
    return dict(conv_block=partial(build, **options))


# Blocks that the operator does not support: options, a change, and a part of the reason.
UNSUPPORTED = {
    'random selection': (dict(selection='random'), None, 'channel selector'),
    'original channels': (dict(position='original'), None, 'the first or the last'),
    'replace first': (dict(fusion='replace'), None, 'does not add'),
    'replace last': (dict(fusion='replace', position='last'), None, 'does not add'),
    'replace original': (dict(fusion='replace', position='original'), None, 'does not add'),
    'ConvNeXt': (conv_block(convnext_block, norm=nn.BatchNorm2d), None, 'has a Conv2d'),
    'depthwise': (conv_block(inverted_residual, hidden_channels=8), None, 'ReLU6, not ReLU'),
    'SiLU': (conv_block(bottleneck, act_cfg=dict(type='SiLU')), None, 'SiLU, not ReLU'),
    'GroupNorm': (
        conv_block(basic_block, norm_cfg=dict(type='GN', num_groups=1)), None,
        'GroupNorm cannot be folded',
    ),
    'ConvWS': (conv_block(basic_block, conv_cfg=dict(type='ConvWS')), None, 'convolution'),
    'wide': (dict(width=130, c=2), None, 'more than 64'),
    'no layers': (dict(conv_block=lambda k: nn.Sequential()), None, 'not one of this package'),
    'hook': ({}, add_hook('conv_block.0'), 'a hook'),
    'no ReLU': ({}, replace('conv_block.0.with_activation', False), 'missing'),
    'padding': ({}, replace('conv_block.1.conv.padding_mode', 'reflect'), 'convolution'),
    'quantized': ({}, quantize_selector, 'has been replaced'),
    'bias': ({}, replace('selector.fc1', nn.Linear(24, 6)), 'has been replaced'),
    'max pooling': ({}, replace('selector.pool', nn.AdaptiveMaxPool2d(1)), 'has been replaced'),
    'wrapper': ({}, replace('selector.relu.forward', lambda x: x * 2), 'a wrapper'),
    'custom drop path': ({}, replace('drop_path', Halving()), 'Halving after the Conv-Block'),
    'custom fusion': ({}, replace('fusion', Doubling(24, 4)), 'its fusion'),
    'custom block': ({}, replace('__class__', AddingInput), 'not one of this package'),
    'hook on the fusion': ({}, add_hook('fusion'), 'a hook'),
}  # fmt: skip
# Custom code may read the input after the fusion.
NEVER_IN_PLACE = ('custom fusion', 'custom block', 'hook on the fusion')


@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('case', UNSUPPORTED)
def test_unsupported_blocks_run_in_plain_pytorch_in_place(case, layout):
    options, change, reason = UNSUPPORTED[case]
    block = make(**options)
    if change:
        change(block)
    deployed = deploy(block)
    assert reason in deployed.problem
    assert '\n' not in deployed.problem
    x = torch.rand(3, block.in_channels, 5, 4).to(memory_format=FORMATS[layout])
    torch.manual_seed(1)  # for random selection
    expected = block(x)
    for module, inplace in (
        (deployed, case not in NEVER_IN_PLACE),
        (deploy(block, inplace=False), False),
    ):
        given = x.clone()
        torch.manual_seed(1)
        out = module(given)
        assert (out is given) is inplace
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        assert inplace or torch.equal(given, x)


@pytest.mark.usefixtures('operator')
def test_plain_pytorch_without_the_operator(monkeypatch):
    monkeypatch.setattr(deployed_block, 'operator_problem', lambda device: 'no compiler')
    block = make()
    assert deploy(block).problem == 'no compiler'
    assert_same_as_plain_block(block, torch.rand(2, 24, 5, 4), uses_operator=False)


def test_norms_are_folded_in_eval_mode():
    deployed = deploy(make(drop_path=DropPath(0.5)).train())
    assert not any(is_norm(layer) for layer in deployed.modules())
    assert not any(module.training for module in deployed.modules())
    assert_same_as_plain_block(
        make(drop_path=DropPath(0.5)), torch.rand(2, 24, 5, 4), uses_operator=not operator_problem()
    )


def test_norm_after_the_activation_is_not_folded():
    block = make()
    order = ('conv', 'act', 'norm')
    block.conv_block = nn.Sequential(ConvModule(4, 4, 1, norm_cfg=dict(type='BN'), order=order))
    block.conv_block[0].bn.running_mean.fill_(-1)
    block.eval()
    x = torch.rand(2, 24, 5, 4)
    torch.testing.assert_close(deploy(block, inplace=False)(x), block(x))


@pytest.mark.usefixtures('operator')
def test_gradients():
    block = make()
    x = torch.rand(2, 24, 4, 3)
    with torch.enable_grad():
        deployed = deploy(block).requires_grad_(False)
        gradients = []
        for module in (deployed, block):
            given = x.clone().requires_grad_()
            module(given).square().sum().backward()
            gradients.append(given.grad)
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)

        trained = deploy(block)
        trained.block.selector.requires_grad_(True)
        given = x.clone()
        trained(given).sum().backward()
        assert trained.block.selector.fc1.weight.grad.any()
        assert torch.equal(given, x)


@pytest.mark.usefixtures('operator')
def test_forward_mode_gradients_and_vmap():
    block, x, tangent = make(), torch.rand(2, 24, 4, 3), torch.rand(2, 24, 4, 3)
    with torch.enable_grad():
        actual, expected = (
            torch.func.jvp(module, (x,), (tangent,)) for module in (deploy(block), block)
        )
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    if TORCH >= (2, 2):
        stack = torch.stack([x, tangent])
        out = torch.vmap(deploy(block))(stack)
        torch.testing.assert_close(out, torch.vmap(block)(stack), rtol=1e-4, atol=1e-5)


CONVERSIONS = {
    'half': lambda module: module.half(),
    'bfloat16': lambda module: module.bfloat16(),
    'double': lambda module: module.double(),
    'channels last': lambda module: module.to(memory_format=torch.channels_last),
    'half and back': lambda module: module.half().float(),
    'copied': copy.deepcopy,
    'pickled': lambda module: pickle.loads(pickle.dumps(module)),
    'autocast': lambda module: torch.autocast('cpu', dtype=torch.bfloat16)(module),
}


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('case', CONVERSIONS)
def test_conversions_after_deployment(case):
    if case == 'half' and TORCH < (2, 4):
        pytest.skip('this torch has no fp16 on CPU')
    block = make(c=3)
    deployed = CONVERSIONS[case](deploy(block))
    dtype = next(deployed.parameters()).dtype if isinstance(deployed, nn.Module) else torch.float32
    x = torch.rand(2, 24, 5, 4)
    exact = case in ('double', 'channels last', 'copied', 'pickled')
    expected, given = block(x), x.clone()
    error = deployed(x.to(dtype)).float() - expected
    assert error.norm() <= (1e-5 if exact else 0.03) * (expected - given).norm()


@pytest.mark.usefixtures('operator')
def test_unpickling_without_the_operator_logs_the_reason(monkeypatch):
    messages, block, x = [], make(), torch.rand(2, 24, 5, 4)
    pickled = pickle.dumps(deploy(block))
    monkeypatch.setattr(deployed_block, 'operator_problem', lambda device: 'no compiler')
    monkeypatch.setattr(deployed_block, 'log_once', messages.append)
    deployed = pickle.loads(pickled)
    assert [message.rsplit(': ')[-1] for message in messages] == ['no compiler']
    assert not deployed.is_supported(x)
    expected = block(x)
    torch.testing.assert_close(deployed(x), expected, rtol=1e-4, atol=1e-5)


def test_meta_device_and_strided_maps():
    block, x = make(), torch.rand(2, 24, 4, 8)[..., ::2]
    torch.testing.assert_close(deploy(block, inplace=False)(x), block(x), rtol=1e-4, atol=1e-5)
    assert deploy(block).to('meta')(x.to('meta')).shape == x.shape


def test_wrong_shape_names_the_block():
    with pytest.raises(AssertionError, match=r'MoD block \(width 24, c=6\): expected an input'):
        deploy(make())(torch.rand(2, 23, 4, 4))


class Standard(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(24, 24, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv(x) + x)


def make_stage(inplace=True, saturated=False):
    """A stage with two MoD blocks, and the same with deployed ones."""
    plain = nn.Sequential(Standard(), make(), Standard(), make(position='last'))
    if saturated:
        saturate(plain[3].selector)
    deployed = copy.deepcopy(plain)
    for i in (1, 3):
        deployed[i] = DeployedMoDBlock(deployed[i], inplace)
    return plain, deployed


@pytest.mark.usefixtures('operator')
@needs_dynamo
@pytest.mark.parametrize('gradients', [True, False])
def test_torch_compile_has_the_operator_in_one_graph(gradients, compiled_graphs):
    plain, deployed = make_stage()
    compiled = torch.compile(deployed, fullgraph=True, dynamic=False)
    deployed.requires_grad_(False)
    with torch.set_grad_enabled(gradients):
        for _ in range(3):
            x = torch.rand(2, 24, 4, 3)
            given = x.clone()
            torch.testing.assert_close(compiled(given), plain(x), rtol=1e-4, atol=1e-5)
            assert torch.equal(given, x)
    (graph,) = compiled_graphs
    assert [str(node.target) for node in graph.graph.nodes].count('mmcnnmod.mod_block_') == 2


@pytest.mark.slow
@pytest.mark.usefixtures('operator')
@needs_dynamo
def test_inductor():
    """With a second MoD block whose scores are all 1, where the order is that of the logits."""
    torch._dynamo.reset()
    plain, deployed = make_stage(saturated=True)
    x = torch.rand(2, 24, 6, 5).to(memory_format=torch.channels_last)
    out = torch.compile(deployed, fullgraph=True)(x)
    torch.testing.assert_close(out, plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('tracer', TRACERS)
@pytest.mark.parametrize('inplace', [True, False])
@pytest.mark.parametrize('gradients', [True, False])
def test_tracers_record_plain_pytorch(tracer, inplace, gradients):
    if 'export' in tracer and TORCH < (2, 8):
        pytest.skip('this torch cannot tell an exporter from a compiler')
    torch._dynamo.reset()
    plain, deployed = make_stage(inplace)
    with torch.set_grad_enabled(gradients):
        traced = TRACERS[tracer](deployed, torch.rand(2, 24, 4, 3))
    graph = str(traced.inlined_graph if tracer == 'jit' else traced.graph)
    assert 'mod_block_' not in graph
    x = torch.rand(2, 24, 4, 3)
    torch.testing.assert_close(traced(x), plain(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_onnx_has_standard_operators():
    onnx = pytest.importorskip('onnx')
    onnxruntime = pytest.importorskip('onnxruntime')
    plain, deployed = make_stage()
    data = traced(deployed, torch.rand(1, 24, 4, 3), ['out'], {0: 'n'})
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    x = torch.rand(3, 24, 4, 3)
    (out,) = session.run(None, {'images': x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), plain(x), rtol=1e-4, atol=1e-5)

    graph = onnx.load_from_string(data).graph
    kinds = {node.op_type for node in graph.node}
    assert {'Split', 'Concat', 'TopK', 'GatherElements'} <= kinds
    assert not any('Scatter' in kind for kind in kinds)
    initialisers = {tensor.name for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == 'Conv']
    assert convolutions
    assert all(node.input[1] in initialisers for node in convolutions)
