"""Quantise an exported file to int8.

    python tools/deployment/quantize.py CONFIG FILE OUT [--data-root DIR]

FILE is a file from tools/deployment/export.py, .onnx or .xml; OUT has the same suffix.
"""

import sys

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('quantize')
