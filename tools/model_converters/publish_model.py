"""Prepare a trained checkpoint for publication.

    python tools/model_converters/publish_model.py work_dirs/x/best_mIoU_iter_80000.pth fcn.pth

writes fcn-HASH.pth with the weights, the config, versions and scores; .safetensors as well.
"""

import sys

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('publish')
