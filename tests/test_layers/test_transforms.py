"""The MoD block under tracers, exporters, function transforms and layers that are replaced."""

import copy
import io
import shutil
import warnings

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping, quantize_dynamic
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.func import functional_call, stack_module_state
from torch.nn.utils import parametrizations, prune
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mmcnnmod.layers import ChannelSelector, bottleneck, plain_conv

from ..utils.blocks import TORCH, TRACERS, make_block, saturate

VARIANTS = {
    'first': {},
    'last': {'position': 'last'},
    'original': {'position': 'original'},
    'replace': {'fusion': 'replace'},
    'original replace': {'position': 'original', 'fusion': 'replace'},
    'k = 1': {'c': 16},
}
needs_export = pytest.mark.skipif(TORCH < (2, 6), reason='torch.export is too old')


@pytest.fixture(params=VARIANTS)
def block(request):
    return make(**VARIANTS[request.param])


def make(width=16, conv_block=bottleneck, **options):
    torch.manual_seed(0)
    return make_block(width, conv_block, **options).eval()


def maps(batch=3, height=5, width=4):
    return torch.rand(batch, 16, height, width) - 0.3


# Batch, height and width; some differ from those of the traced map.
SHAPES = [(1, 5, 4), (2, 5, 4), (3, 7, 6)]


@torch.no_grad()
def assert_same_outputs(run, block, shapes=SHAPES):
    for shape in shapes:
        x = maps(*shape)
        torch.testing.assert_close(run(x), block(x))


def run_onnx(model):
    """Load a model, given as a path or as bytes; returns a function of the map."""
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def dynamic_dimensions():
    names = {0: 'n', 2: 'height', 3: 'width'}
    return {i: torch.export.Dim(name, max=64) for i, name in names.items()}


@pytest.mark.parametrize('batch', [1, 2])
def test_trace_is_exact_at_every_batch_and_size(block, batch):
    with warnings.catch_warnings():
        warnings.simplefilter('error', torch.jit.TracerWarning)
        traced = torch.jit.trace(block, maps(batch))
    assert_same_outputs(traced, block)


@torch.no_grad()
def test_random_selection_is_traced_for_every_batch():
    block = make(selection='random')
    traced = torch.jit.trace(block, maps(1), check_trace=False)
    x = maps(3)
    results = []
    for run in (block, traced):
        torch.manual_seed(1)
        results.append(run(x))
    torch.testing.assert_close(*results)


def test_fx(block):
    traced = torch.fx.symbolic_trace(block)
    assert_same_outputs(traced, block)
    with pytest.raises(AssertionError, match='expected an input of shape'):
        traced(torch.rand(2, 15, 4, 4))


@needs_export
@pytest.mark.parametrize('strict', [True, False])
@torch.no_grad()
def test_torch_export_with_dynamic_shapes(block, strict):
    shapes = {'x': dynamic_dimensions()}
    program = torch.export.export(block, (maps(),), dynamic_shapes=shapes, strict=strict)
    assert_same_outputs(program.module(), block, SHAPES[1:])


@pytest.mark.parametrize('batch', [1, 2])
def test_onnx_is_exact_at_every_batch_and_size(block, batch):
    pytest.importorskip('onnxruntime')
    buffer = io.BytesIO()
    old = {'dynamo': False} if TORCH >= (2, 5) else {}
    axes = {'x': {0: 'n', 2: 'height', 3: 'width'}}
    torch.onnx.export(block, (maps(batch),), buffer, input_names=['x'], dynamic_axes=axes,
                      opset_version=17, **old)  # fmt: skip
    assert_same_outputs(run_onnx(buffer.getvalue()), block)


@needs_export
def test_onnx_by_the_newer_exporter(block, tmp_path):
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    shapes = (dynamic_dimensions(),)
    torch.onnx.export(
        block, (maps(2),), tmp_path / 'a.onnx', dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    assert_same_outputs(run_onnx(tmp_path / 'a.onnx'), block)


@pytest.mark.skipif(TORCH < (2, 2), reason='torch 2.1 has no batching rule for some operators')
def test_vmap_and_per_sample_gradients(block):
    x = maps(6)[:, None]
    torch.testing.assert_close(torch.vmap(block)(x), torch.stack([block(sample) for sample in x]))

    parameters = {name: p.detach() for name, p in block.named_parameters()}

    def loss(parameters, x):
        return functional_call(block, parameters, (x,)).square().sum()

    batched = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    expected = torch.func.grad(loss)(parameters, x[1])
    for name, gradient in expected.items():
        torch.testing.assert_close(batched[name][1], gradient, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_vmap_over_a_stack_of_models():
    blocks = [make() for _ in range(2)]
    nn.init.normal_(blocks[1].selector.fc2.weight)
    parameters, buffers = stack_module_state(blocks)
    x = maps()

    def call(parameters, buffers):
        return functional_call(blocks[0], (parameters, buffers), (x,))

    outs = torch.vmap(call)(parameters, buffers)
    torch.testing.assert_close(outs, torch.stack([block(x) for block in blocks]))


def test_forward_mode_gradients(block):
    block.double()
    x, direction = maps().double(), maps().double()
    out, tangent = torch.func.jvp(block, (x,), (direction,))
    torch.testing.assert_close(out, block(x))
    step = 1e-6
    differences = (block(x + step * direction) - block(x - step * direction)) / (2 * step)
    torch.testing.assert_close(tangent, differences, rtol=1e-4, atol=1e-6)


def test_meta_device():
    with torch.device('meta'):
        block = make()
    assert block(torch.rand(2, 16, 4, 4, device='meta')).shape == (2, 16, 4, 4)
    block.to_empty(device='cpu').load_state_dict(make().state_dict())
    assert_same_outputs(block, make())


class LoRA(nn.Module):
    """A low-rank adapter added to a frozen linear layer."""

    def __init__(self, layer, rank=2):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def test_adapters_in_the_selector_get_gradients(block):
    x = maps()
    expected, logits = block(x), block.selector.logits(x)
    for name in ('fc1', 'fc2'):
        setattr(block.selector, name, LoRA(getattr(block.selector, name)))
    torch.testing.assert_close(block(x), expected)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        torch.testing.assert_close(block.selector.logits(x), logits)
    low = copy.deepcopy(block).bfloat16().selector.logits(x.bfloat16())
    torch.testing.assert_close(low, logits, rtol=0.05, atol=0.02)
    block.train()(x).square().sum().backward()
    assert block.selector.fc2.up.weight.grad.any()


def test_parametrized_and_pruned_layers_of_the_selector(block):
    x = maps()
    expected = block(x)
    for layer in (block.selector.fc1, block.selector.fc2):
        parametrizations.weight_norm(layer)
    torch.testing.assert_close(block(x), expected)
    assert_same_outputs(torch.jit.trace(block, x), block)
    block.train()(x).square().sum().backward()
    assert block.selector.fc2.parametrizations.weight.original1.grad.any()

    pruned = make()
    prune.random_unstructured(pruned.selector.fc2, 'weight', 0.5)
    mask = pruned.selector.fc2.weight_mask
    by_hand = make()
    with torch.no_grad():
        by_hand.selector.fc2.weight.mul_(mask)
    torch.testing.assert_close(pruned(x), by_hand(x))


@torch.no_grad()
def test_8_bit_linear_layers(block):
    quantized = quantize_dynamic(block, {nn.Linear}, dtype=torch.qint8)
    assert 'quantized' in type(quantized.selector.fc1).__module__
    x = maps()
    by_hand = copy.deepcopy(block)  # with the rounded weights
    for name in ('fc1', 'fc2'):
        weight = getattr(quantized.selector, name).weight().dequantize()
        getattr(by_hand.selector, name).weight.copy_(weight)
    # Activations are rounded as well, which changes scores and sometimes the selection.
    close = (quantized(x) - by_hand(x)).abs() < 0.05 * by_hand(x).abs().max()
    assert close.float().mean() > 0.9


@torch.no_grad()
def test_8_bit_convolutions():
    """Static quantisation of the Conv-Block by torch.fx; the selector stays in float32."""
    block = make()
    mapping = get_default_qconfig_mapping('x86').set_module_name('selector', None)
    prepared = prepare_fx(block, mapping, (maps(),))
    for _ in range(3):
        prepared(maps())
    quantized = convert_fx(prepared)
    x = maps()
    assert any('quantized' in type(module).__module__ for module in quantized.modules())
    expected = block(x)
    assert (quantized(x) - expected).abs().max() < 0.05 * expected.abs().max()


def test_torch_and_mmengine_count_macs(block):
    x = maps(1)
    conv_block = sum(
        layer.weight.numel() * x[0, 0].numel()
        for layer in block.conv_block.modules()
        if isinstance(layer, nn.Conv2d)
    )
    selector = sum(layer.weight.numel() for layer in (block.selector.fc1, block.selector.fc2))
    counter = FlopCounterMode(display=False)
    with counter:
        block(x)
    assert counter.get_total_flops() == 2 * (conv_block + selector)
    counts = FlopAnalyzer(block, x).by_operator()
    assert counts['conv'] == conv_block
    assert counts['linear'] == selector


@torch.no_grad()
def test_deterministic_algorithms(block):
    """They fill uninitialised memory with NaN."""
    x = maps()
    expected = block(x)
    torch.use_deterministic_algorithms(True)
    try:
        torch.testing.assert_close(block(x), expected)
    finally:
        torch.use_deterministic_algorithms(False)


class ForbidSynchronization(TorchDispatchMode):
    """Fails at an operation for which the host has to wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        synchronizing = ('_local_scalar_dense', 'item', 'nonzero', 'masked_select')
        assert func._schema.name.removeprefix('aten::') not in synchronizing
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('gradients', [True, False])
def test_host_never_waits_for_the_device(block, gradients):
    with torch.set_grad_enabled(gradients), ForbidSynchronization():
        out = block(maps())
        if gradients:
            out.sum().backward()


def compile_with_inductor(module, x):
    torch._dynamo.reset()
    return torch.compile(module, fullgraph=True)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('tracer', [*TRACERS, pytest.param('inductor', marks=pytest.mark.slow)])
@torch.no_grad()
def test_saturated_scores_select_the_highest_logits(tracer, dtype):
    if 'export' in tracer and TORCH < (2, 6):
        pytest.skip('torch.export is too old')
    if tracer == 'inductor' and (TORCH < (2, 4) or shutil.which('c++') is None):
        pytest.skip('inductor cannot compile it here')
    selector = ChannelSelector(64, 4).eval()
    highest = saturate(selector)
    x = (torch.rand(3, 64, 5, 4) + 0.1).to(dtype)
    tracers = {**TRACERS, 'inductor': compile_with_inductor}
    index, scores = tracers[tracer](selector.to(dtype), x)(x)
    assert index.tolist() == [highest] * 3
    assert (scores == 1).all()


@pytest.mark.slow  # seconds for each layer
@pytest.mark.skipif(shutil.which('c++') is None, reason='no C++ compiler')
@pytest.mark.skipif(TORCH < (2, 4), reason='torch 2.1 generates C++ that does not compile')
@pytest.mark.parametrize('position', ['first', 'original'])
@pytest.mark.parametrize('conv_block', [plain_conv, bottleneck])
def test_inductor_compiles_training(conv_block, position):
    block = make(64, conv_block, c=16, position=position).train().double()
    x = torch.rand(2, 64, 16, 16, dtype=torch.double, requires_grad=True)
    compiled = output_and_gradients(compile_with_inductor(block, x), x, block)
    for actual, expected in zip(compiled, output_and_gradients(block, x, block), strict=True):
        # Some gradients before a norm are zero up to rounding.
        assert (actual - expected).norm() <= 1e-6 * expected.norm() + 1e-6


def output_and_gradients(run, x, block):
    """The output, and the gradients of the sum of its squares."""
    out = run(x)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), [x, *block.parameters()])]
