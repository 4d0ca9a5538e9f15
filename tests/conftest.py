"""Shared fixtures: the toolboxes that are installed here, and their MoD backbones."""

import importlib

import pytest
import torch

import mmcnnmod  # noqa: F401  (registers the backbones)
from mmcnnmod.toolboxes import MINIMUM_VERSIONS, is_absent


def pytest_addoption(parser):
    parser.addoption(
        '--device', default='cuda', help="where tests marked gpu run; 'cpu' tries the tests"
    )


@pytest.fixture
def device(request):
    """The device of a test marked gpu, computing in full float32."""
    name = request.config.getoption('--device')
    if name == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no GPU')
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield torch.device(name)
    torch.backends.cudnn.allow_tf32 = tf32


@pytest.fixture(params=sorted(MINIMUM_VERSIONS))
def toolbox(request):
    """Name of each toolbox in turn."""
    if is_absent(request.param):
        pytest.skip(f'{request.param} is not installed')
    return request.param


@pytest.fixture
def backbones(toolbox):
    """The module with the toolbox's MoD backbones."""
    return importlib.import_module(f'mmcnnmod.toolboxes.{toolbox}')
