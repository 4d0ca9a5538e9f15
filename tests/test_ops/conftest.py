"""Where the operator has to be there: a test of it skips only where nothing could compile it."""

import os
import shutil
import sysconfig

import pytest

from mmcnnmod.ops import operator_problem


def missing():
    """What the compiling of the operator lacks on this machine, if anything."""
    path = os.pathsep.join([sysconfig.get_path('scripts'), os.environ.get('PATH', os.defpath)])
    tools = {'C++ compiler': os.environ.get('CXX', 'c++'), 'ninja': 'ninja'}
    return [name for name, tool in tools.items() if shutil.which(tool, path=path) is None]


@pytest.fixture
def operator():
    """Whatever else the reason is, a test without the operator fails."""
    if operator_problem() is not None and missing():
        pytest.skip(f'no {" and no ".join(missing())}')
    assert operator_problem() is None
