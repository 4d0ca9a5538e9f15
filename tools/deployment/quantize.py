"""Write an exported file anew such that it computes in int8.

    python tools/deployment/quantize.py CONFIG FILE OUT [--data-root DIR]

FILE is what tools/deployment/export.py wrote, .onnx or .xml; OUT has the same ending.
"""

import sys

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('quantize')
