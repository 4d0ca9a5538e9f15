"""Shared fixtures: the toolboxes that are installed here, and their MoD backbones."""

import importlib

import pytest

import mmcnnmod  # noqa: F401  (registers the backbones)
from mmcnnmod.toolboxes import MINIMUM_VERSIONS, is_absent


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
