"""Whole backbones under exporters and transforms: the MoD network goes where the dense one does."""

import copy
import pickle
import warnings

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping, quantize_dynamic
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel

from ..utils.blocks import TORCH

SMALL = dict(depth=18, base_channels=16, stem_channels=16, out_indices=(1, 3))
OTHERS = [(1, 32, 32), (2, 48, 64), (3, 64, 32)]
needs_export = pytest.mark.skipif(TORCH < (2, 6), reason='torch.export is young')


def make(backbones, kind='ResNetMoD', deploy=False, **options):
    torch.manual_seed(0)
    network = getattr(backbones, kind)(**{**SMALL, **options}, norm_eval=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
    network.eval()
    if deploy:
        network.switch_to_deploy()
    return network


def images(batch=2, height=32, width=32):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))


def assert_same(run, network, shapes=OTHERS):
    for shape in shapes:
        x = images(*shape)
        with torch.no_grad():
            torch.testing.assert_close(tuple(run(x)), tuple(network(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('batch', [1, 2])
def test_trace(backbones, batch, deploy):
    network = make(backbones, deploy=deploy)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        traced = torch.jit.trace(network, images(batch))
    assert_same(traced, network)


def test_fx(backbones):
    network = make(backbones)
    assert_same(torch.fx.symbolic_trace(network), network)


@needs_export
@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('strict', [pytest.param(True, marks=pytest.mark.slow), False])
def test_export_with_a_dynamic_batch(backbones, strict, deploy):
    network = make(backbones, deploy=deploy)
    batch = torch.export.Dim('batch', max=64)
    program = torch.export.export(network, (images(),), dynamic_shapes=({0: batch},), strict=strict)
    assert_same(program.module(), network, [(2, 32, 32), (3, 32, 32), (5, 32, 32)])


@needs_export
@pytest.mark.slow
def test_compiled_ahead_of_time(backbones, tmp_path):
    network = make(backbones)
    batch = torch.export.Dim('batch', min=1, max=8)
    program = torch.export.export(network, (images(),), dynamic_shapes=({0: batch},))
    package = torch._inductor.aoti_compile_and_package(
        program, package_path=str(tmp_path / 'a.pt2')
    )
    assert_same(torch._inductor.aoti_load_package(package), network, [(1, 32, 32), (3, 32, 32)])


@pytest.mark.parametrize('depth', [18, 50])
def test_eight_bit_linear_layers(backbones, depth):
    network = make(backbones, depth=depth)
    quantized = quantize_dynamic(copy.deepcopy(network), {nn.Linear}, dtype=torch.qint8)
    x = images()
    with torch.no_grad():
        for one, same in zip(quantized(x), network(x), strict=True):
            assert one.shape == same.shape
            assert (one - same).norm() < 0.5 * same.norm()


@pytest.mark.slow
@torch.no_grad()
def test_everything_of_eight_bits(backbones):
    """Static quantisation by torch.fx, selectors included."""
    network = make(backbones)
    x = images(4, 64, 64)
    prepared = prepare_fx(copy.deepcopy(network), get_default_qconfig_mapping('x86'), (x,))
    prepared(x)
    quantized = convert_fx(prepared)
    for one, same in zip(quantized(x), network(x), strict=True):
        assert (one - same).norm() < 0.2 * same.norm()
    assert quantized(images(3, 96, 64))[-1].shape == (3, 128, 3, 2)


@pytest.mark.parametrize('kind', ['ResNet', 'ResNetMoD'])
def test_the_toolboxes_forward_cannot_be_scripted(backbones, kind):
    with pytest.raises(Exception, match=r'support'):
        torch.jit.script(make(backbones, kind))


def test_without_memory(backbones):
    """Built on the meta device, as big models are, and filled afterwards."""
    try:
        with torch.device('meta'):
            backbones.ResNet(depth=18)
    except RuntimeError:  # mmpretrain's reads a number of a tensor
        with torch.device('meta'), pytest.raises(RuntimeError, match=r'[Mm]eta'):
            backbones.ResNetMoD(depth=18)
        return
    with torch.device('meta'):
        empty = make(backbones)
    assert empty(images().to('meta'))[-1].shape == (2, 128, 1, 1)
    empty.to_empty(device='cpu').load_state_dict(make(backbones).state_dict())
    empty.eval()
    assert_same(empty, make(backbones))


@pytest.mark.parametrize('options', [{}, dict(fusion='replace', position='last')])
def test_copies(backbones, options):
    network = make(backbones, **options)
    assert_same(copy.deepcopy(network), network)
    assert_same(pickle.loads(pickle.dumps(network)), network)
    for average in (AveragedModel(network), ExponentialMovingAverage(network)):
        average.update_parameters(network)
        assert_same(average.module.eval() or average.module, network)


@pytest.mark.skipif(TORCH < (2, 2), reason='torch 2.1 has no batching rule for a part of it')
def test_gradients_of_each_sample(backbones):
    network = make(backbones)
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def loss(parameters, x):
        return functional_call(network, parameters, (x[None],))[-1].square().sum()

    x = images(2)
    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    alone = torch.func.grad(loss)(parameters, x[1])
    for name, gradient in alone.items():
        torch.testing.assert_close(each[name][1], gradient, rtol=1e-3, atol=1e-4)


def test_parametrised_for_every_image(backbones):
    """Weight norm in all selectors, gradients through it, and a trace."""
    network = make(backbones)
    expected = [out.detach() for out in network(images())]
    for name, module in network.named_modules():
        if name.endswith(('.fc1', '.fc2')):
            torch.nn.utils.parametrizations.weight_norm(module)
    torch.testing.assert_close(list(network(images())), expected, rtol=1e-4, atol=1e-5)
    network(images())[-1].square().sum().backward()
    selector = network.layer2[1].selector
    assert selector.fc2.parametrizations.weight.original1.grad.any()
    assert_same(torch.jit.trace(network, images(1)), network)
