"""The MoD block on a GPU against its definition, computed on the CPU."""

from copy import deepcopy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from mmcnnmod.layers import MoDBlock, basic_block, bottleneck
from mmcnnmod.ops import DeployedMoDBlock

from ..utils.reference import reference_mod_block, reference_scores

pytestmark = pytest.mark.gpu

# Width, c, Conv-Block, side of the map: ResNet-50's first and last stage, ResNet-18's, a wide one.
BLOCKS = {
    'first': (256, 64, bottleneck, 56),
    'last': (2048, 64, bottleneck, 7),
    'basic': (512, 64, basic_block, 7),
    'wide': (512, 8, bottleneck, 14),
}
POSITIONS = ('first', 'last', 'original')
TOLERANCE = dict(rtol=1e-4, atol=1e-5)


def make_block(name, position='first', **options):
    """A block on the CPU whose norms have seen something."""
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
    # Channels of different means, so that no two scores are close.
    means = torch.rand(batch, width, 1, 1, generator=generator)
    return torch.rand(batch, width, side, side, generator=generator) + means


def gradients(block, x):
    """Of a sum with fixed weights: by parameter, and of the map."""
    x = x.detach().requires_grad_()
    out = block(x)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape).to(out.device, out.dtype)
    names, parameters = zip(*block.named_parameters(), strict=True)
    found = torch.autograd.grad((out * weights).sum(), (x, *parameters))
    return {name: grad.cpu() for name, grad in zip(('x', *names), found, strict=True)}


class Reference(nn.Module):
    """The definition as a module."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return reference_mod_block(self.block, x)


def assert_same_gradients(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        scale = wanted[name].abs().max().item()
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize('position', POSITIONS)
@pytest.mark.parametrize('name', BLOCKS)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_plain(device, name, position, layout):
    block, x = make_block(name, position), make_map(name)
    wanted = reference_mod_block(block, x)
    block.to(device, memory_format=layout)
    out = block(x.to(device).contiguous(memory_format=layout))
    torch.testing.assert_close(out.cpu(), wanted, **TOLERANCE)
    assert out.is_contiguous(memory_format=layout)


@pytest.mark.parametrize('position', POSITIONS)
@pytest.mark.parametrize('name', BLOCKS)
def test_gradients_in_training(device, name, position):
    block, x = make_block(name, position).train(), make_map(name)
    wanted = gradients(Reference(deepcopy(block)), x)
    wanted = {key.removeprefix('block.'): grad for key, grad in wanted.items()}
    assert_same_gradients(gradients(block.to(device), x.to(device)), wanted)


@pytest.mark.parametrize('inplace', [True, False])
@pytest.mark.parametrize('position', POSITIONS)
@pytest.mark.parametrize('name', BLOCKS)
def test_deployed(device, name, position, inplace):
    block, x = make_block(name, position), make_map(name)
    wanted = reference_mod_block(block, x)
    deployed = DeployedMoDBlock(block.to(device), inplace)
    assert (deployed.problem is None) == (position != 'original')
    x = x.to(device)
    with torch.inference_mode():
        out = deployed(x)
    torch.testing.assert_close(out.cpu(), wanted, **TOLERANCE)
    assert (out.data_ptr() == x.data_ptr()) == inplace


@pytest.fixture
def cuda(device):
    """For what only a GPU has, or does otherwise."""
    if device.type != 'cuda':
        pytest.skip('needs a GPU')
    return device


@pytest.mark.parametrize('batch', [1, 9])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', BLOCKS)
def test_deployed_in_half_precision(cuda, name, dtype, layout, batch):
    """It computes in float32, so it is the definition of the rounded weights, rounded."""
    block = make_block(name, 'last').to(dtype)
    x = make_map(name, batch).to(dtype)
    deployed = DeployedMoDBlock(deepcopy(block).to(cuda))
    wanted = reference_mod_block(deepcopy(block).float(), x.float())
    with torch.inference_mode():
        out = deployed(x.to(cuda).contiguous(memory_format=layout))
    assert out.dtype == dtype
    changed = (wanted - x.float()).norm()
    assert (out.float().cpu() - wanted).norm() < 0.05 * changed + 0.01 * wanted.norm()


@pytest.mark.parametrize('position', ['first', 'last'])
def test_deployed_takes_the_lower_of_equal_channels_and_ranks_nan_first(cuda, position):
    block, x = make_block('wide', position), make_map('wide')
    nn.init.zeros_(block.selector.fc2.weight)  # all scores are 1/2
    wanted = reference_mod_block(block, x)
    deployed = DeployedMoDBlock(block.to(cuda))
    with torch.inference_mode():
        out = deployed(x.to(cuda).clone())
        torch.testing.assert_close(out.cpu(), wanted, **TOLERANCE)
        x[1] = torch.nan
        out = deployed(x.to(cuda).clone()).cpu()
    torch.testing.assert_close(out[[0, 2]], wanted[[0, 2]], **TOLERANCE)
    assert out[1].isnan().all()


@pytest.mark.parametrize('deploy', [False, True])
def test_compiled(device, deploy):
    block, x = make_block('last'), make_map('last')
    wanted = reference_mod_block(block, x)
    block = block.to(device)
    compiled = torch.compile(DeployedMoDBlock(block) if deploy else block, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x.to(device)).cpu(), wanted, **TOLERANCE)


def test_compiled_in_training(device):
    block, x = make_block('last').train(), make_map('last')
    wanted = gradients(Reference(deepcopy(block)), x)
    wanted = {key.removeprefix('block.'): grad for key, grad in wanted.items()}
    block.to(device)
    block.forward = torch.compile(block.forward, fullgraph=True)
    assert_same_gradients(gradients(block, x.to(device)), wanted)


@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('position', POSITIONS)
def test_cuda_graph_replays_other_inputs(cuda, deploy, position):
    block = make_block('last', position)
    maps = [make_map('last', seed=seed) for seed in range(3)]
    wanted = [reference_mod_block(block, x) for x in maps]
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
        for x, right in zip(maps, wanted, strict=True):
            static.copy_(x)
            graph.replay()
            torch.testing.assert_close(out.cpu(), right, **TOLERANCE)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ['first', 'last', 'basic'])
def test_autocast_selects_in_float32(device, name, dtype):
    block, x = make_block(name), make_map(name)
    order = reference_scores(block.selector, x).argsort(dim=1, descending=True)[:, : block.k]
    wanted = reference_mod_block(block, x)
    block.to(device)
    with torch.autocast(device.type, dtype):
        index, scores = block.selector(x.to(device))
        out = block(x.to(device))
    assert torch.equal(index.cpu(), order)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(out.float().cpu(), wanted, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_gradients_under_autocast(device, dtype):
    block, x = make_block('first').train(), make_map('first')
    wanted = gradients(Reference(deepcopy(block)), x)
    block.to(device)
    with torch.autocast(device.type, dtype):
        found = gradients(block, x.to(device))
    for name, grad in found.items():
        right = wanted.get(f'block.{name}', wanted.get(name))
        assert torch.isfinite(grad).all()
        assert torch.nn.functional.cosine_similarity(grad.flatten(), right.flatten(), 0) > 0.97


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(device, dtype):
    block, x = make_block('last'), make_map('last')
    wanted = reference_mod_block(block, x)
    block.to(device, dtype)
    with torch.inference_mode():
        out = block(x.to(device, dtype))
    assert out.dtype == dtype
    changed = (wanted - x).norm()
    assert (out.float().cpu() - wanted).norm() < 0.2 * changed + 0.01 * wanted.norm()
    torch.testing.assert_close(out[:, block.k :].float().cpu(), wanted[:, block.k :], rtol=1e-2,
                               atol=1e-2)  # fmt: skip


def test_checkpointing(device):
    block, x = make_block('last').train(), make_map('last').to(device)
    block.to(device)
    wanted = gradients(deepcopy(block), x)
    block.with_cp = True
    assert_same_gradients(gradients(block, x), wanted)


def test_distributed_on_one_gpu(device, tmp_path):
    block, x = make_block('last').train(), make_map('last').to(device)
    block.to(device)
    wanted = gradients(deepcopy(block), x)
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
    del wanted['x']
    assert_same_gradients(found, wanted)
