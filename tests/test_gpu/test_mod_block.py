"""The MoD block on a GPU against the reference on the CPU."""

from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from mmcnnmod.layers import MoDBlock, basic_block, bottleneck
from mmcnnmod.ops import DeployedMoDBlock

from ..utils.reference import reference_mod_block, reference_scores

pytestmark = pytest.mark.gpu

# Channels, c, Conv-Block and map size: stages of ResNet-50 and ResNet-18, and a wide Conv-Block.
BLOCKS = {
    'first': (256, 64, bottleneck, 56),
    'last': (2048, 64, bottleneck, 7),
    'basic': (512, 64, basic_block, 7),
    'wide': (512, 8, bottleneck, 14),
}
POSITIONS = ('first', 'last', 'original')
TOLERANCE = dict(rtol=1e-4, atol=1e-5)


def make_block(name, position='first', **options):
    """A block in eval mode on the CPU, with random norms."""
    torch.manual_seed(0)
    width, c, conv_block, _ = BLOCKS[name]
    block = MoDBlock(width, conv_block, c=c, position=position, **options)
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.1, 0.1)
    return block.eval()


def make_map(name, batch=3, seed=1):
    width, _, _, side = BLOCKS[name]
    generator = torch.Generator().manual_seed(seed)
    # Channels with different means, so that no two scores are close.
    means = torch.rand(batch, width, 1, 1, generator=generator)
    return torch.rand(batch, width, side, side, generator=generator) + means


def gradients(block, x, run=None):
    """Gradients of the map and the parameters, for a weighted sum of the output of ``run``."""
    x = x.detach().requires_grad_()
    out = (run or block)(x)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape).to(out.device, out.dtype)
    tensors = {'x': x, **dict(block.named_parameters())}
    grads = torch.autograd.grad((out * weights).sum(), list(tensors.values()))
    return {name: grad.cpu() for name, grad in zip(tensors, grads, strict=True)}


def reference_gradients(block, x):
    return gradients(block, x, run=partial(reference_mod_block, block))


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize('position', POSITIONS)
@pytest.mark.parametrize('name', BLOCKS)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_plain(device, name, position, layout):
    block, x = make_block(name, position), make_map(name)
    expected = reference_mod_block(block, x)
    block.to(device, memory_format=layout)
    out = block(x.to(device).contiguous(memory_format=layout))
    torch.testing.assert_close(out.cpu(), expected, **TOLERANCE)
    assert out.is_contiguous(memory_format=layout)


@pytest.mark.parametrize('position', POSITIONS)
@pytest.mark.parametrize('name', BLOCKS)
def test_gradients_in_training(device, name, position):
    block, x = make_block(name, position).train(), make_map(name)
    expected = reference_gradients(deepcopy(block), x)
    assert_same_gradients(gradients(block.to(device), x.to(device)), expected)


@pytest.mark.parametrize('inplace', [True, False])
@pytest.mark.parametrize('position', POSITIONS)
@pytest.mark.parametrize('name', BLOCKS)
def test_deployed(device, name, position, inplace):
    block, x = make_block(name, position), make_map(name)
    expected = reference_mod_block(block, x)
    deployed = DeployedMoDBlock(block.to(device), inplace)
    assert (deployed.problem is None) == (position != 'original')
    x = x.to(device)
    with torch.inference_mode():
        out = deployed(x)
    torch.testing.assert_close(out.cpu(), expected, **TOLERANCE)
    assert (out.data_ptr() == x.data_ptr()) == inplace


@pytest.fixture
def cuda(device):
    """For tests that need CUDA itself, even with ``--device cpu``."""
    if device.type != 'cuda':
        pytest.skip('needs a GPU')
    return device


@pytest.mark.parametrize('batch', [1, 9])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', BLOCKS)
def test_deployed_in_half_precision(cuda, name, dtype, layout, batch):
    """The operator computes in float32, so the reference has rounded weights in float32."""
    block = make_block(name, 'last').to(dtype)
    x = make_map(name, batch).to(dtype)
    deployed = DeployedMoDBlock(deepcopy(block).to(cuda))
    expected = reference_mod_block(deepcopy(block).float(), x.float())
    with torch.inference_mode():
        out = deployed(x.to(cuda).contiguous(memory_format=layout))
    assert out.dtype == dtype
    changed = (expected - x.float()).norm()
    assert (out.float().cpu() - expected).norm() < 0.05 * changed + 0.01 * expected.norm()


@pytest.mark.parametrize('position', ['first', 'last'])
def test_deployed_selects_lower_channels_of_equal_logits_and_nan_first(cuda, position):
    block, x = make_block('wide', position), make_map('wide')
    nn.init.zeros_(block.selector.fc2.weight)  # all scores are 1/2
    expected = reference_mod_block(block, x)
    deployed = DeployedMoDBlock(block.to(cuda))
    with torch.inference_mode():
        out = deployed(x.to(cuda).clone())
        torch.testing.assert_close(out.cpu(), expected, **TOLERANCE)
        x[1] = torch.nan
        out = deployed(x.to(cuda).clone()).cpu()
    torch.testing.assert_close(out[[0, 2]], expected[[0, 2]], **TOLERANCE)
    assert out[1].isnan().all()


@pytest.mark.parametrize('deploy', [False, True])
def test_compiled(device, deploy):
    block, x = make_block('last'), make_map('last')
    expected = reference_mod_block(block, x)
    block = block.to(device)
    compiled = torch.compile(DeployedMoDBlock(block) if deploy else block, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x.to(device)).cpu(), expected, **TOLERANCE)


def test_compiled_in_training(device):
    block, x = make_block('last').train(), make_map('last')
    expected = reference_gradients(deepcopy(block), x)
    block.to(device)
    block.forward = torch.compile(block.forward, fullgraph=True)
    assert_same_gradients(gradients(block, x.to(device)), expected)


@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('position', POSITIONS)
def test_cuda_graph_replays_other_inputs(cuda, deploy, position):
    block = make_block('last', position)
    maps = [make_map('last', seed=seed) for seed in range(3)]
    expected = [reference_mod_block(block, x) for x in maps]
    block = block.to(cuda)
    block = DeployedMoDBlock(block) if deploy else block
    static = maps[0].to(cuda)
    with torch.inference_mode():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            block(static.clone())
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = block(static)
        for x, reference in zip(maps, expected, strict=True):
            static.copy_(x)
            graph.replay()
            torch.testing.assert_close(out.cpu(), reference, **TOLERANCE)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ['first', 'last', 'basic'])
def test_autocast_selects_in_float32(device, name, dtype):
    block, x = make_block(name), make_map(name)
    order = reference_scores(block.selector, x).argsort(dim=1, descending=True)[:, : block.k]
    expected = reference_mod_block(block, x)
    block.to(device)
    with torch.autocast(device.type, dtype):
        index, scores = block.selector(x.to(device))
        out = block(x.to(device))
    assert torch.equal(index.cpu(), order)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(out.float().cpu(), expected, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_gradients_under_autocast(device, dtype):
    block, x = make_block('first').train(), make_map('first')
    expected = reference_gradients(deepcopy(block), x)
    block.to(device)
    with torch.autocast(device.type, dtype):
        found = gradients(block, x.to(device))
    for name, grad in found.items():
        assert torch.isfinite(grad).all()
        assert F.cosine_similarity(grad.flatten(), expected[name].flatten(), 0) > 0.97


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(device, dtype):
    block, x = make_block('last'), make_map('last')
    expected = reference_mod_block(block, x)
    block.to(device, dtype)
    with torch.inference_mode():
        out = block(x.to(device, dtype))
    assert out.dtype == dtype
    changed = (expected - x).norm()
    assert (out.float().cpu() - expected).norm() < 0.2 * changed + 0.01 * expected.norm()
    torch.testing.assert_close(out[:, block.k :].float().cpu(), expected[:, block.k :], rtol=1e-2,
                               atol=1e-2)  # fmt: skip


def test_checkpointing(device):
    block, x = make_block('last').train(), make_map('last').to(device)
    block.to(device)
    expected = gradients(deepcopy(block), x)
    block.with_cp = True
    assert_same_gradients(gradients(block, x), expected)


def test_distributed_on_one_gpu(device, tmp_path):
    block, x = make_block('last').train(), make_map('last').to(device)
    block.to(device)
    expected = gradients(deepcopy(block), x)
    dist.init_process_group(
        'nccl' if device.type == 'cuda' else 'gloo',
        init_method=f'file://{tmp_path}/store', rank=0, world_size=1,
    )  # fmt: skip
    try:
        parallel = nn.parallel.DistributedDataParallel(block)
        out = parallel(x)
        weights = torch.linspace(-1, 1, out.numel(), device=device).view(out.shape)
        (out * weights).sum().backward()
        found = {name: parameter.grad.cpu() for name, parameter in block.named_parameters()}
    finally:
        dist.destroy_process_group()
    del expected['x']
    assert_same_gradients(found, expected)
