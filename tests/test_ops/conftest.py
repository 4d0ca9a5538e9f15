"""Tests of the operator skip only if it cannot be compiled."""

import os
import shutil
import sysconfig

import pytest

from mmcnnmod.ops import operator_problem


def missing():
    """The tools missing on this machine for compiling the operator."""
    path = os.pathsep.join([sysconfig.get_path('scripts'), os.environ.get('PATH', os.defpath)])
    tools = {'C++ compiler': os.environ.get('CXX', 'c++'), 'ninja': 'ninja'}
    return [name for name, tool in tools.items() if shutil.which(tool, path=path) is None]


@pytest.fixture
def operator():
    """Require the operator; without it, a test fails unless tools are missing."""
    if operator_problem() is not None and missing():
        pytest.skip(f'no {" and no ".join(missing())}')
    assert operator_problem() is None
