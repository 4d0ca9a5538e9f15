"""See which channels an MoD block selects: python channel_usage.py CONFIG CHECKPOINT [options]."""

import os
import sys

# Read when torch is loaded: waiting threads must not spin, see tools/train.py.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('channel_usage')
