"""The machine and the versions that a result depends on."""

from __future__ import annotations

import os
import platform
import sys

import torch

# The toolboxes are imported if they are installed.
PACKAGES = ('mmcnnmod', 'torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet')


def machine(device: str) -> str:
    """A machine in a few words: its GPU if one is used, cores, system, Python.

    Args:
        device (str): 'auto', 'cpu' or 'cuda'.
    """
    gpu = device != 'cpu' and torch.cuda.is_available()
    parts = [torch.cuda.get_device_name(0)] if gpu else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    system = f'{platform.system()} {platform.machine()}'
    return ', '.join([*parts, f'{cores} cores', system, f'Python {platform.python_version()}'])


def versions() -> dict[str, str]:
    """The versions of torch, OpenMMLab's packages and this package, if they are imported."""
    return {name: sys.modules[name].__version__ for name in PACKAGES if name in sys.modules}
