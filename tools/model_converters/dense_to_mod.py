"""Turn dense weights into a checkpoint of an MoD model that starts close to the dense one.

    python tools/model_converters/dense_to_mod.py CONFIG_OF_MOD_MODEL DENSE_CHECKPOINT OUT.pth

The dense checkpoint contains a backbone, or a whole model, whose other parts are kept.
"""

import sys

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('dense_to_mod')
