"""Two iterations of each task through tools/train.py, with mmcv's operators."""

import re

import pytest

from ..utils.tasks import data, tail, trained  # noqa: F401

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg', 'mmdet'])
def test_two_iterations(device, trained, scope):  # noqa: F811
    pytest.importorskip(scope)
    _, result = trained(scope)
    printed = result.stdout + result.stderr
    assert result.returncode == 0, tail(result)
    assert re.search(r'CUDA available: (True|False)', printed)[1] == str(device.type == 'cuda')
    losses = [float(loss) for loss in re.findall(r'\bloss: ([\d.]+)', printed)]
    assert len(losses) >= 2
    assert all(loss > 0 for loss in losses)
