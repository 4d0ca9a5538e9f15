"""Score a trained checkpoint: python tools/test.py CONFIG CHECKPOINT [options]."""

from mmcnnmod.cli import launch

if __name__ == '__main__':
    launch('test')
