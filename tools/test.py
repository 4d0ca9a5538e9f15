"""Test a trained checkpoint: python tools/test.py CONFIG CHECKPOINT [options]."""

import os
import sys

# Read when torch is loaded: waiting threads must not spin. On two cores, one of them used by
# another process, a training step took five times as long with spinning.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('test')
