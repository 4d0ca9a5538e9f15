"""Score a trained checkpoint: python tools/test.py CONFIG CHECKPOINT [options]."""

from mmcnnmod.cli.test import main

if __name__ == '__main__':
    main()
