"""Distributed training: two processes compute the gradients of one process on both batches."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmcnnmod.layers import basic_block

from ..utils.blocks import make_block


def network():
    torch.manual_seed(0)
    blocks = [make_block(16, basic_block) for _ in range(2)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *blocks).eval()  # fixed statistics


def images():
    return torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def gradients(net, x):
    net(x).square().mean().backward()
    return {name.removeprefix('module.'): p.grad for name, p in net.named_parameters()}


def work(rank, port, path):
    dist.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    result = gradients(DistributedDataParallel(network()), images()[rank::2])
    if rank == 0:
        torch.save(result, path)
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_gradients(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    mp.spawn(work, (port, tmp_path / 'gradients.pth'), nprocs=2)
    actual, expected = torch.load(tmp_path / 'gradients.pth'), gradients(network(), images())
    assert set(actual) == set(expected)
    for name, gradient in expected.items():
        assert gradient.norm() > 0
        assert (actual[name] - gradient).norm() <= 1e-6 * gradient.norm(), name
