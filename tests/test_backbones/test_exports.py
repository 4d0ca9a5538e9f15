"""Complete backbones under tracers, exporters, quantisation and copies."""

import copy
import pickle
import warnings

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.optim.swa_utils import AveragedModel

from ..utils.blocks import TORCH, randomize_norms

SMALL = dict(depth=18, base_channels=16, stem_channels=16, out_indices=(1, 3))
# Batch, height and width; some differ from those of the traced images.
SHAPES = [(1, 32, 32), (2, 48, 64), (3, 64, 32)]
needs_export = pytest.mark.skipif(TORCH < (2, 6), reason='torch.export is too old')


def make(backbones, kind='ResNetMoD', deploy=False, **options):
    torch.manual_seed(0)
    network = getattr(backbones, kind)(**{**SMALL, **options}, norm_eval=False)
    randomize_norms(network)
    network.eval()
    if deploy:
        network.switch_to_deploy()
    return network


def images(batch=2, height=32, width=32):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))


def assert_same_outputs(run, network, shapes=SHAPES):
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
    assert_same_outputs(traced, network)


@needs_export
@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('strict', [pytest.param(True, marks=pytest.mark.slow), False])
def test_export_with_a_dynamic_batch(backbones, strict, deploy):
    network = make(backbones, deploy=deploy)
    batch = torch.export.Dim('batch', max=64)
    program = torch.export.export(network, (images(),), dynamic_shapes=({0: batch},), strict=strict)
    assert_same_outputs(program.module(), network, [(2, 32, 32), (3, 32, 32), (5, 32, 32)])


@needs_export
@pytest.mark.slow
def test_ahead_of_time_compilation(backbones, tmp_path):
    network = make(backbones)
    batch = torch.export.Dim('batch', min=1, max=8)
    program = torch.export.export(network, (images(),), dynamic_shapes=({0: batch},))
    package = torch._inductor.aoti_compile_and_package(
        program, package_path=str(tmp_path / 'a.pt2')
    )
    assert_same_outputs(
        torch._inductor.aoti_load_package(package), network, [(1, 32, 32), (3, 32, 32)]
    )


@pytest.mark.slow
@torch.no_grad()
def test_8_bit_network(backbones):
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
def test_torch_jit_script_is_not_supported(backbones, kind):
    with pytest.raises(Exception, match=r'support'):
        torch.jit.script(make(backbones, kind))


def test_meta_device(backbones):
    """Built on the meta device, as big models are, and filled afterwards."""
    try:
        with torch.device('meta'):
            backbones.ResNet(depth=18)
    except RuntimeError:  # mmpretrain's ResNet converts a tensor to a number
        pytest.skip('this toolbox does not support the meta device')
    with torch.device('meta'):
        network = make(backbones)
    assert network(images().to('meta'))[-1].shape == (2, 128, 1, 1)
    network.to_empty(device='cpu').load_state_dict(make(backbones).state_dict())
    network.eval()
    assert_same_outputs(network, make(backbones))


@pytest.mark.parametrize(
    'options', [{}, dict(fusion='replace', position='last'), dict(deploy=True)]
)
def test_copies(backbones, options):
    network = make(backbones, **options)
    assert_same_outputs(copy.deepcopy(network), network)
    assert_same_outputs(pickle.loads(pickle.dumps(network)), network)
    for average in (AveragedModel(network), ExponentialMovingAverage(network)):
        average.update_parameters(network)
        average.eval()
        assert_same_outputs(average.module, network)
