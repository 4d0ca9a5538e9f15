"""Compiled and exported: one graph, the same every time, that never waits for a device."""

import io
import shutil

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmcnnmod.layers import MoDBlock, become_mod_stage, bottleneck, use_backend
from mmcnnmod.layers.backends import switch

SYNCHRONISING = ('aten::_local_scalar_dense', 'aten::item', 'aten::nonzero', 'aten::masked_select')


class Standard(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv(x) + x)


def make(**options):
    torch.manual_seed(0)
    blocks = [Standard(16), MoDBlock(16, bottleneck, **{'c': 4, 'r': 4, **options}), Standard(16)]
    stage = nn.Sequential(*blocks)
    become_mod_stage(stage)
    return stage.eval()


def reference(stage, x):
    with use_backend('reference'):
        return stage(x)


@pytest.mark.parametrize('gradients', [True, False])
def test_one_graph_for_all_batches_of_a_shape(gradients):
    torch._dynamo.reset()
    graphs = []

    def compiler(graph, inputs):
        graphs.append(graph)
        return graph

    stage = make()
    compiled = torch.compile(stage, backend=compiler, fullgraph=True, dynamic=False)
    with torch.set_grad_enabled(gradients):
        for _ in range(3):
            x = torch.rand(2, 16, 4, 3)
            torch.testing.assert_close(compiled(x), reference(stage, x))
    assert len(graphs) == 1


class Waits(TorchDispatchMode):
    """Fails at an operation for which the host has to read what the device computed."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name not in SYNCHRONISING
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('way', ['reference', 'eager'])
@pytest.mark.parametrize('position', ['first', 'last', 'original'])
@pytest.mark.parametrize('gradients', [True, False])
def test_the_host_never_waits(way, position, gradients):
    stage, x = make(position=position), torch.rand(2, 16, 4, 3)
    with torch.set_grad_enabled(gradients), use_backend(way), Waits():
        out = stage(x)
        if gradients:
            out.sum().backward()


@pytest.mark.parametrize('position', ['first', 'last', 'original'])
@torch.no_grad()
def test_onnx_export_of_the_deploy_form(position):
    onnx = pytest.importorskip('onnx')
    onnxruntime = pytest.importorskip('onnxruntime')
    stage, x = make(position=position), torch.rand(2, 16, 4, 3)
    expected = stage(x)
    stage[1].switch_to_deploy()
    buffer = io.BytesIO()
    old = {'dynamo': False} if torch.__version__ >= '2.5' else {}
    torch.onnx.export(stage, (x,), buffer, input_names=['x'], opset_version=17, **old)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=['CPUExecutionProvider'])
    (out,) = session.run(None, {'x': x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), expected)

    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(buffer.getvalue())).graph
    whole = [
        node.op_type
        for node in graph.node
        for info in (*graph.value_info, *graph.output)
        if info.name in node.output
        and [d.dim_value for d in info.type.tensor_type.shape.dim] == list(x.shape)
    ]
    # Two standard blocks, and one map between them.
    assert sorted(whole) == sorted([*['Conv', 'Add', 'Relu'] * 2, 'ScatterND'])


@pytest.mark.skipif(not hasattr(torch.export, 'export'), reason='no torch.export')
@torch.no_grad()
def test_torch_export():
    stage, x = make(), torch.rand(2, 16, 4, 3)
    stage[1].switch_to_deploy()
    program = torch.export.export(stage, (x,))
    module = program.module() if hasattr(program, 'module') else program
    torch.testing.assert_close(module(x), reference(stage, x))


@pytest.mark.skipif(shutil.which('c++') is None, reason='no C++ compiler')
@pytest.mark.skipif(not switch.NEW_TORCH, reason='torch 2.1 gets the definition')
@pytest.mark.parametrize('position', ['first', 'last'])
def test_inductor_compiles_training(position):
    """Of the definition's gradients it makes C++ that does not compile."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    block = MoDBlock(64, bottleneck, c=16, position=position)
    x = torch.rand(2, 64, 16, 16, requires_grad=True)
    compiled = gradients(torch.compile(block, fullgraph=True), x, block)
    for one, same in zip(compiled, gradients(block.define, x, block), strict=True):
        # Some gradients before a norm are zero but for rounding.
        assert (one - same).norm() <= 1e-3 * same.norm() + 1e-3


def gradients(run, x, block):
    """The output, and the gradients of its square."""
    out = run(x)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), [x, *block.parameters()])]
