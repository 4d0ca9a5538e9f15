"""The programs in tools/: read a config, apply the options, check everything, then run."""

import sys
from importlib import import_module


def launch(program: str) -> None:
    """Run ``main`` of a module of this package; report a missing or broken package in one line.

    Args:
        program (str): The module's name, such as 'train'.
    """
    try:
        module = import_module(f'{__name__}.{program}')
    except ImportError as problem:
        cause = ' '.join(str(problem).split())
        sys.exit(f'error: {cause}; install matching torch, mmengine and mmcv (README, Versions)')
    module.main()
