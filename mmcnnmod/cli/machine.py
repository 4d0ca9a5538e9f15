"""The machine and the versions that a result depends on."""

from __future__ import annotations

import os
import platform
import sys

import torch

from ..toolboxes import MINIMUM_VERSIONS

PACKAGES = ('mmcnnmod', 'torch', 'mmengine', 'mmcv', *MINIMUM_VERSIONS)


def machine(device: str) -> str:
    """A short description of this machine: its GPU if one is used, cores, system, Python.

    Args:
        device (str): 'auto', 'cpu' or 'cuda'.
    """
    gpu = device != 'cpu' and torch.cuda.is_available()
    parts = [torch.cuda.get_device_name(0)] if gpu else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    system = f'{platform.system()} {platform.machine()}'
    return ', '.join([*parts, f'{cores} cores', system, f'Python {platform.python_version()}'])


def versions() -> dict[str, str]:
    """The versions of torch, OpenMMLab's packages and this package, if they are installed.

    The import of mmcnnmod imports the installed toolboxes.
    """
    # str(): torch's version has a type of its own, which checkpoints must not contain.
    return {name: str(sys.modules[name].__version__) for name in PACKAGES if name in sys.modules}
