"""Accuracy against cost (Fig. 3): python tools/analysis_tools/plot_tradeoff.py PICTURE.png.

Four panels: top-1 accuracy against GMAC, parameters, CPU and GPU time. Without options it uses the
paper's accuracies and times, which the title states:

    plot_tradeoff.py tradeoff.png --results FILE  # accuracies of your own runs
    plot_tradeoff.py tradeoff.png --speed FILE    # times of a benchmark
    plot_tradeoff.py tradeoff.png --counts FILE   # of paper_tables.py --json; builds no models

mmcnnmod/analysis/measurements.py documents the formats of these files.
"""

import os
import sys

# Read when torch is loaded: waiting threads must not spin.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('plot_tradeoff')
