"""The description of the machine, and the versions."""

import torch

from mmcnnmod.cli.machine import machine, versions


def test_machine_and_versions():
    assert 'Python 3' in machine('cpu')
    assert versions()['torch'] == torch.__version__
