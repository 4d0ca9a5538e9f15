"""The switch between the definition and the fast paths."""

import runpy

import pytest
import torch

from mmcnnmod.layers import ChannelSelector, backend, choose_backend, use_backend
from mmcnnmod.layers.channel_selector import mean_of_map


def test_switch_is_restored():
    with pytest.raises(RuntimeError), use_backend('reference'):  # noqa: PT012
        assert backend.is_reference()
        raise RuntimeError
    assert not backend.is_reference()


def test_unknown_backend():
    with pytest.raises(ValueError, match="unknown backend 'fast'; choose from auto, reference"):
        choose_backend('fast')


@pytest.mark.parametrize(('value', 'reference'), [('reference', True), ('eager', False)])
def test_environment_variable(value, reference, monkeypatch):
    monkeypatch.setenv('MMCNNMOD_BACKEND', value)
    assert runpy.run_path(backend.__file__)['is_reference']() is reference


def test_unknown_name_in_the_environment(monkeypatch):
    monkeypatch.setenv('MMCNNMOD_BACKEND', 'fast')
    with pytest.raises(ValueError, match="MMCNNMOD_BACKEND: unknown backend 'fast'; choose"):
        runpy.run_path(backend.__file__)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize('shape', [(2, 7, 3, 5), (1, 4, 1, 1), (1, 1, 6, 6), (0, 3, 2, 2)])
def test_mean_of_map(shape, dtype, layout):
    x = torch.randn(shape).to(dtype).to(memory_format=layout)
    expected = x.double().mean((2, 3)).to(dtype)
    torch.testing.assert_close(mean_of_map(x), expected)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('medium')
    try:
        torch.testing.assert_close(mean_of_map(x), expected)
    finally:
        torch.set_float32_matmul_precision(precision)


def test_hooks_on_the_pooling_see_it():
    """Counters of MACs hook it."""
    selector, seen = ChannelSelector(16, k=2, r=4), []
    x = torch.rand(2, 16, 3, 3).to(memory_format=torch.channels_last)
    expected = selector(x)
    selector.pool.register_forward_hook(lambda *args: seen.append(args))
    for one, same in zip(selector(x), expected, strict=True):
        torch.testing.assert_close(one, same)
    assert len(seen) == 1
