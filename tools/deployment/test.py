"""Score an exported file, and the network in PyTorch, with the test of its config.

    python tools/deployment/test.py CONFIG FILE [--data-root DIR]

FILE is a file from tools/deployment/export.py or quantize.py.
"""

import sys

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('test_exported')
