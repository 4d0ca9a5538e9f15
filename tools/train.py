"""Train a classifier, segmentor or detector: python tools/train.py CONFIG [options]."""

from mmcnnmod.cli.train import main

if __name__ == '__main__':
    main()
