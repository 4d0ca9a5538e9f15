"""The deployed MoD block against the plain one, with the operator and in plain PyTorch."""

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

from ..utils.blocks import TORCH, make_block, randomize_norms, saturate

FORMATS = {'contiguous': torch.contiguous_format, 'channels last': torch.channels_last}
CONV_BLOCKS = {
    'bottleneck': bottleneck,
    'basic': basic_block,
    'dilated': partial(basic_block, dilation=3),
    'plain': plain_conv,
    'without norm': partial(plain_conv, norm_cfg=None),
}
needs_dynamo = pytest.mark.skipif(TORCH < (2, 4), reason='no operator within torch.compile')


@pytest.fixture(autouse=True)
def no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def make(width=24, conv_block=bottleneck, c=6, **options):
    """A block in eval mode whose norms do something."""
    block = make_block(width, conv_block, c=c, **options).eval()
    randomize_norms(block)
    for name, tensor in block.state_dict().items():
        if 'bn.running_mean' in name:
            tensor.sub_(1)
    return block


def deploy(block, inplace=True):
    return DeployedMoDBlock(copy.deepcopy(block), inplace)


def check(block, x, inplace=True, uses_operator=True):
    """Compare the k channels with the plain block's, and the others with the input."""
    deployed = deploy(block, inplace)
    assert deployed.is_supported(x) is uses_operator
    expected, given = block(x), x.clone()
    out = deployed(x)
    assert (out is x) is inplace
    assert inplace or torch.equal(x, given)
    assert out.stride() == given.stride()
    where = slice(-block.k, None) if block.fusion.position == 'last' else slice(block.k)
    added = (expected - given)[:, where].norm()
    assert added > 0.01 * given[:, where].norm()  # or there would be nothing to compare
    assert (out - expected)[:, where].norm() <= 1e-5 * added
    out[:, where] = given[:, where]
    assert torch.equal(out, given)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('conv_block', CONV_BLOCKS)
def test_the_operator_computes_the_block(layout, conv_block):
    for n, width, c, height, width_of_map, position in [
        (1, 24, 6, 7, 5, 'first'),
        (5, 24, 24, 1, 1, 'first'),
        (1, 30, 30, 9, 4, 'last'),
        (5, 64, 4, 3, 6, 'last'),
        (2, 17, 5, 1, 8, 'first'),
        (1, 40, 8, 41, 37, 'first'),  # several shares and tiles, on several threads
    ]:
        block = make(width, CONV_BLOCKS[conv_block], c, position=position)
        block.to(memory_format=FORMATS[layout])
        x = torch.rand(n, width, height, width_of_map).sub(0.3)
        check(block, x.to(memory_format=FORMATS[layout]), inplace=n == 1)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('layout', FORMATS)
def test_large_maps_are_shared_among_threads(layout):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        block = make(96, c=6)
        for n in (1, 4):
            x = torch.rand(n, 96, 75, 67).to(memory_format=FORMATS[layout])
            first = x[:1].contiguous(memory_format=FORMATS[layout])
            check(block, x.clone())
            torch.testing.assert_close(deploy(block)(x)[:1], deploy(block)(first))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.usefixtures('operator')
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
    check(block, x)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('layout', FORMATS)
@pytest.mark.parametrize('c', [4, 64])  # many channels and few
def test_where_all_scores_are_1_the_highest_logits_are_selected(layout, c):
    block = make(128, c=c)
    highest = saturate(block.selector)
    x = torch.rand(2, 128, 4, 3).to(memory_format=FORMATS[layout])
    index, scores = block.selector(x)
    assert index.tolist() == [highest] * 2
    assert (scores == 1).all()
    check(block, x)


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('levels', [1, 4])
@pytest.mark.parametrize('c', [4, 64])
def test_of_equal_logits_the_lower_channels_are_taken(c, levels):
    """Unlike torch.topk, whose choice is that of its algorithm; here it gets this one."""
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
    import sys, torch
    from tests.utils.blocks import saturate, turn_off
    from tests.test_ops.test_deployed_block import deploy, make
    torch.set_num_threads(int(sys.argv[1]))
    found = []
    for change in (saturate, turn_off):
        torch.manual_seed(0)
        block = make(128, c=8)
        change(block.selector)
        x = torch.rand(3, 128, 9, 7)
        with torch.no_grad():
            found += [*block.selector(x), block(x), deploy(block)(x)]
    torch.save(found, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.usefixtures('operator')
def test_other_processes_select_the_same(run_python, tmp_path):
    found = []
    for threads in (1, 3):
        path = tmp_path / f'{threads}.pth'
        result = run_python('-c', PROGRAM, threads, path)
        assert result.returncode == 0, result.stderr
        found.append(torch.load(path))
    assert found[0][0].tolist() == [saturate(make(128, c=8).selector)] * 3
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


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
def test_relu_at_the_end_is_optional():
    block = make()
    block.conv_block[-1].with_activation = False
    check(block, torch.rand(2, 24, 4, 4))


@pytest.mark.parametrize('shape', [(0, 24, 4, 4), (2, 24, 0, 3)])
def test_empty_maps(shape):
    assert deploy(make())(torch.rand(shape)).shape == shape


@pytest.mark.usefixtures('operator')
def test_torch_is_told_of_the_overwriting():
    x = torch.rand(1, 24, 2, 2)
    version = x._version
    deploy(make())(x)
    assert x._version == version + 1
    with torch.inference_mode():
        check(make(), torch.rand(1, 24, 2, 2))


class Halving(nn.Module):
    def forward(self, x):
        return x / 2


class Doubling(Fusion):
    """Somebody's own fusion."""

    def forward(self, x, processed, index):
        return super().forward(x, 2 * processed, index)


class Remembering(MoDBlock):
    """Somebody's own block, which reads its input once more."""

    def forward(self, x):
        return super().forward(x) + x


# Blocks that the operator does not support: their options, a change, and a part of the reason.
UNSUPPORTED = {
    'random selection': (dict(selection='random'), None, 'channel selector'),
    'original places': (dict(position='original'), None, 'the first or the last'),
    'replaced': (dict(fusion='replace'), None, 'does not add'),
    'replaced at the end': (dict(fusion='replace', position='last'), None, 'does not add'),
    'both': (dict(fusion='replace', position='original'), None, 'does not add'),
    'another Conv-Block': (
        dict(conv_block=partial(convnext_block, norm=nn.BatchNorm2d)), None, 'has a Conv2d'
    ),
    'depthwise': (
        dict(conv_block=partial(inverted_residual, hidden_channels=8)), None, 'ReLU6, not ReLU'
    ),
    'another activation': (
        dict(conv_block=partial(bottleneck, act_cfg=dict(type='SiLU'))), None, 'SiLU, not ReLU'
    ),
    'GroupNorm': (
        dict(conv_block=partial(basic_block, norm_cfg=dict(type='GN', num_groups=1))),
        None,
        'GroupNorm cannot be folded',
    ),
    'standardised': (
        dict(conv_block=partial(basic_block, conv_cfg=dict(type='ConvWS'))), None, 'convolution'
    ),
    'wide': (dict(width=130, c=2), None, 'more than 64'),
    'empty': (dict(conv_block=lambda k: nn.Sequential()), None, 'not one of this package'),
    'a hook': (
        {}, lambda block: block.conv_block[0].conv.register_forward_hook(lambda *args: None),
        'a hook',
    ),
    'no activation between': (
        {}, lambda block: setattr(block.conv_block[0], 'with_activation', False), 'missing'
    ),
    'reflection': (
        {}, lambda block: setattr(block.conv_block[1].conv, 'padding_mode', 'reflect'), 'conv'
    ),
    'quantised': (
        {},
        lambda block: torch.ao.quantization.quantize_dynamic(
            block.selector, {nn.Linear}, inplace=True
        ),
        'has been replaced',
    ),
    'a bias': (
        {}, lambda block: setattr(block.selector, 'fc1', nn.Linear(24, 6)), 'has been replaced'
    ),
    'another pooling': (
        {}, lambda block: setattr(block.selector, 'pool', nn.AdaptiveMaxPool2d(1)),
        'has been replaced',
    ),
    'a wrapper': (
        {}, lambda block: setattr(block.selector.relu, 'forward', lambda x: x * 2), 'a wrapper'
    ),
    'another drop path': (
        {}, lambda block: setattr(block, 'drop_path', Halving()), 'Halving behind the Conv-Block'
    ),
    'another fusion': (
        {}, lambda block: setattr(block, 'fusion', Doubling(24, 4)), 'its fusion'
    ),
    'another block': (
        {}, lambda block: setattr(block, '__class__', Remembering), 'not one of this package'
    ),
    'a hook on the fusion': (
        {}, lambda block: block.fusion.register_forward_hook(lambda module, inputs, out: 3 * out),
        'a hook',
    ),
}  # fmt: skip
# Custom code in these may read the input again.
NEVER_IN_PLACE = ('another fusion', 'another block', 'a hook on the fusion')


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
    for one, inplace in (
        (deployed, case not in NEVER_IN_PLACE),
        (deploy(block, inplace=False), False),
    ):
        given = x.clone()
        torch.manual_seed(1)  # for random selection
        expected = block(given)
        torch.manual_seed(1)
        out = one(given)
        assert (out is given) is inplace
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        assert inplace or torch.equal(given, x)


@pytest.mark.usefixtures('operator')
def test_without_the_operator_it_is_the_same_in_place(monkeypatch):
    monkeypatch.setattr(deployed_block, 'operator_problem', lambda device: 'no compiler')
    block = make()
    assert deploy(block).problem == 'no compiler'
    check(block, torch.rand(2, 24, 5, 4), uses_operator=False)


def test_norms_are_folded_and_nothing_trains():
    deployed = deploy(make(drop_path=DropPath(0.5)).train())
    assert not any(is_norm(layer) for layer in deployed.modules())
    assert not any(module.training for module in deployed.modules())
    check(
        make(drop_path=DropPath(0.5)), torch.rand(2, 24, 5, 4), uses_operator=not operator_problem()
    )


def test_a_norm_behind_the_activation_stays():
    block = make()
    order = ('conv', 'act', 'norm')
    block.conv_block = nn.Sequential(ConvModule(4, 4, 1, norm_cfg=dict(type='BN'), order=order))
    block.conv_block[0].bn.running_mean.fill_(-1)
    block.eval()
    x = torch.rand(2, 24, 5, 4)
    torch.testing.assert_close(deploy(block, inplace=False)(x), block(x))


@pytest.mark.usefixtures('operator')
def test_gradients_are_never_missing():
    block = make()
    x = torch.rand(2, 24, 4, 3)
    with torch.enable_grad():
        deployed = deploy(block).requires_grad_(False)
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        deployed(one).square().sum().backward()
        block(other).square().sum().backward()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)

        trained = deploy(block)
        trained.block.selector.requires_grad_(True)
        given = x.clone()
        trained(given).sum().backward()
        assert trained.block.selector.fc1.weight.grad.any()
        assert torch.equal(given, x)


@pytest.mark.usefixtures('operator')
def test_forward_gradients_and_vmap_are_the_plain_blocks():
    block, x, tangent = make(), torch.rand(2, 24, 4, 3), torch.rand(2, 24, 4, 3)
    with torch.enable_grad():
        for ours, theirs in zip(
            torch.func.jvp(deploy(block), (x,), (tangent,)),
            torch.func.jvp(block, (x,), (tangent,)),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
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
def test_conversions_afterwards(case):
    if case == 'half' and TORCH < (2, 4):
        pytest.skip('this torch has no fp16 on CPU')
    block = make(c=3)
    convert = CONVERSIONS[case]
    deployed = convert(deploy(block))
    dtype = next(deployed.parameters()).dtype if isinstance(deployed, nn.Module) else torch.float32
    x = torch.rand(2, 24, 5, 4)
    exact = case in ('double', 'channels last', 'copied', 'pickled')
    expected, given = block(x), x.clone()
    error = deployed(x.to(dtype)).float() - expected
    assert error.norm() <= (1e-5 if exact else 0.03) * (expected - given).norm()


@pytest.mark.usefixtures('operator')
def test_a_process_without_the_operator_says_so(monkeypatch):
    said, block, x = [], make(), torch.rand(2, 24, 5, 4)
    pickled = pickle.dumps(deploy(block))
    monkeypatch.setattr(deployed_block, 'operator_problem', lambda device: 'no compiler')
    monkeypatch.setattr(deployed_block, 'log_once', said.append)
    deployed = pickle.loads(pickled)
    assert [line.rsplit(': ')[-1] for line in said] == ['no compiler']
    assert not deployed.is_supported(x)
    expected = block(x)
    torch.testing.assert_close(deployed(x), expected, rtol=1e-4, atol=1e-5)


def test_meta_and_odd_layouts_are_computed_as_well():
    block, x = make(), torch.rand(2, 24, 4, 8)
    odd = x[..., ::2]
    torch.testing.assert_close(deploy(block, inplace=False)(odd), block(odd), rtol=1e-4, atol=1e-5)
    assert deploy(block).to('meta')(x.to('meta')).shape == x.shape


def test_a_wrong_shape_names_the_block():
    with pytest.raises(AssertionError, match=r'MoD block \(width 24, c=6\): expected an input'):
        deploy(make())(torch.rand(2, 23, 4, 4))


class Standard(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(24, 24, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv(x) + x)


def make_stage(inplace=True):
    blocks = make(), make(position='last')
    plain = nn.Sequential(Standard(), blocks[0], Standard(), blocks[1])
    deployed = copy.deepcopy(plain)
    for i in (1, 3):
        deployed[i] = DeployedMoDBlock(deployed[i], inplace)
    return plain, deployed


@pytest.mark.usefixtures('operator')
@needs_dynamo
@pytest.mark.parametrize('gradients', [True, False])
def test_torch_compile_has_the_operator_in_one_graph(gradients):
    torch._dynamo.reset()
    graphs = []
    plain, deployed = make_stage()

    def compiler(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(deployed, backend=compiler, fullgraph=True, dynamic=False)
    deployed.requires_grad_(False)
    with torch.set_grad_enabled(gradients):
        for _ in range(3):
            x = torch.rand(2, 24, 4, 3)
            kept = x.clone()
            torch.testing.assert_close(compiled(x), plain(x), rtol=1e-4, atol=1e-5)
            assert torch.equal(x, kept)
    (graph,) = graphs
    assert [str(node.target) for node in graph.graph.nodes].count('mmcnnmod.mod_block_') == 2


@pytest.mark.slow
@pytest.mark.usefixtures('operator')
@needs_dynamo
def test_inductor_compiles_it():
    torch._dynamo.reset()
    plain, deployed = make_stage()
    x = torch.rand(2, 24, 6, 5).to(memory_format=torch.channels_last)
    out = torch.compile(deployed, fullgraph=True)(x)
    torch.testing.assert_close(out, plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures('operator')
@needs_dynamo
def test_with_inductor_the_highest_logits_are_selected_where_all_scores_are_1():
    torch._dynamo.reset()
    block = make(128, c=8)
    saturate(block.selector)
    x = torch.rand(2, 128, 6, 5)
    out = torch.compile(deploy(block), fullgraph=True)(x.clone())
    torch.testing.assert_close(out, block(x), rtol=1e-4, atol=1e-5)


def exported(module, x):
    return torch.export.export(module, (x,), strict=True).module()


def exported_without_dynamo(module, x):
    return torch.export.export(module, (x,), strict=False).module()


TRACERS = {
    'jit': torch.jit.trace,
    'fx': lambda module, x: torch.fx.symbolic_trace(module),
    'export': exported,
    'export, not strict': exported_without_dynamo,
}


@pytest.mark.usefixtures('operator')
@pytest.mark.parametrize('tracer', TRACERS)
@pytest.mark.parametrize('inplace', [True, False])
@pytest.mark.parametrize('gradients', [True, False])
def test_tracers_get_plain_operators(tracer, inplace, gradients):
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
def test_onnx_of_the_deployed_block_is_plain_operators():
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
