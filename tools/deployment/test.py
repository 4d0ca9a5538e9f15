"""Score an exported file by the test pipeline and the metric of its config, beside PyTorch.

    python tools/deployment/test.py CONFIG FILE [--data-root DIR]

FILE is what tools/deployment/export.py or quantize.py wrote.
"""

import sys

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('test_exported')
