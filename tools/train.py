"""Train a classifier, segmentor or detector: python tools/train.py CONFIG [options]."""

from mmcnnmod.cli import launch

if __name__ == '__main__':
    launch('train')
