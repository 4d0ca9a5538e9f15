"""The gradients' own path: what it writes, and everything that autograd may do with it."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmcnnmod.layers import MoDBlock, bottleneck, use_backend
from mmcnnmod.layers.backends import training_block


def make(**options):
    torch.manual_seed(0)
    block = MoDBlock(16, bottleneck, **{'c': 4, 'r': 4, **options})
    for name, parameter in block.conv_block.named_parameters():
        if 'bn' in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return block


def image(**options):
    torch.manual_seed(1)
    return torch.rand(2, 16, 3, 4, **options)


class Maps(TorchDispatchMode):
    """Counts the full maps that are newly written."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.written = numel, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        old = func.is_view or func._schema.name.endswith(('_', '_unsafe_view'))
        if isinstance(out, torch.Tensor) and out.numel() == self.numel and not old:
            self.written.append(func)
        return out


@pytest.mark.parametrize('position', ['first', 'last', 'original'])
def test_one_map_forward_and_one_backward(position):
    block, x = make(position=position), image(requires_grad=True)
    counts = {}
    for way in ('reference', 'eager'):
        with use_backend(way), Maps(x.numel()) as forward:
            out = block(x)
        grad = torch.rand_like(out)
        with Maps(x.numel()) as backward:
            torch.autograd.grad(out, x, grad)
        counts[way] = len(forward.written), len(backward.written)
    assert counts['eager'] == (1, 1)
    assert counts['reference'][1] > 5


@pytest.mark.parametrize('position', ['first', 'last', 'original'])
@pytest.mark.parametrize('expanded', [True, False])
def test_the_gradient_that_comes_in_stays(position, expanded):
    block, x = make(position=position), image(requires_grad=True)
    out = block(x)
    grad = torch.rand(()).expand_as(out) if expanded else torch.rand_like(out)
    kept = grad.clone()
    torch.autograd.grad(out, x, grad, retain_graph=True)
    assert torch.equal(grad, kept)
    first, second = (torch.autograd.grad(out, x, grad, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_double_use_of_input_and_output():
    """A residual network reads a map in the next block and in its shortcut."""
    results = []
    for way in ('reference', 'eager'):
        block, conv, x = make(), nn.Conv2d(16, 16, 1), image(requires_grad=True)
        nn.init.eye_(conv.weight[:, :, 0, 0].data)
        with use_backend(way):
            y = block(x)
            y.retain_grad()
            z = (conv(y).relu() + y + x) * x
            z.square().sum().backward()
        results.append([x.grad, y.grad, *(parameter.grad for parameter in block.parameters())])
    for one, same in zip(*results, strict=True):
        torch.testing.assert_close(one, same)


@pytest.mark.parametrize('position', ['first', 'original'])
def test_gradcheck(position):
    block = make(position=position).double().eval()
    x = image(dtype=torch.double)[:1, :, :2, :2].requires_grad_()
    parameters = [block.selector.fc2.weight, block.conv_block[0].conv.weight]

    def run(x, *_):
        return training_block.forward(block, x)

    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize('frozen', ['input', 'selector', 'conv_block'])
def test_some_gradients_are_not_wanted(frozen):
    results = []
    for way in ('reference', 'eager'):
        block, x = make(), image(requires_grad=frozen != 'input')
        if frozen != 'input':
            block.get_submodule(frozen).requires_grad_(False)
        with use_backend(way):
            block(x).square().sum().backward()
        results.append([x.grad, *(parameter.grad for parameter in block.parameters())])
    for one, same in zip(*results, strict=True):
        assert (one is None) == (same is None)
        if one is not None:
            torch.testing.assert_close(one, same)


def test_output_may_be_changed_in_place():
    block, x = make(), image(requires_grad=True)
    out = block(x)
    out.mul_(2)
    torch.nn.functional.relu(out, inplace=True).sum().backward()
    assert x.grad is not None


SCRIPT = """
import sys, torch
from torch.nn.parallel import DistributedDataParallel
sys.path.insert(0, sys.argv[3])
from tests.test_layers.test_backends.test_training_block import image, make, training_block
rank = int(sys.argv[1])
torch.distributed.init_process_group('gloo', 'file://' + sys.argv[2], rank=rank, world_size=2)
block = make().eval()
model = DistributedDataParallel(block)
calls, forward = [], training_block.forward
training_block.forward = lambda *args: calls.append(1) or forward(*args)
for step in range(2):
    model.zero_grad()
    model(image()[rank:rank + 1]).square().sum().backward()
assert len(calls) == 2
if rank == 0:
    torch.save([parameter.grad for parameter in block.parameters()], sys.argv[2] + '.pth')
torch.distributed.barrier()
"""


def test_two_processes_give_the_mean_gradient(tmp_path, request):
    arguments = [str(tmp_path / 'meeting'), str(request.config.rootpath)]
    processes = [
        subprocess.Popen([sys.executable, '-c', SCRIPT, str(rank), *arguments]) for rank in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    block = make().eval()
    with use_backend('reference'):
        (block(image()).square().sum() / 2).backward()
    grads = torch.load(tmp_path / 'meeting.pth')
    for grad, parameter in zip(grads, block.parameters(), strict=True):
        torch.testing.assert_close(grad, parameter.grad)
