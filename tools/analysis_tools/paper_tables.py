"""Compare the paper's tables with our counts: python tools/analysis_tools/paper_tables.py.

Tables 1, 2, 3, 4, 7 and 9 as Markdown, with parameters and MACs of the built models and a mark for
each value that agrees to the printed digit:

    paper_tables.py --check            # exit code 1 if a value disagrees (misprints are known)
    paper_tables.py --json FILE        # counts and comparisons
    paper_tables.py --speed FILE       # compare a benchmark's times with the paper's
    paper_tables.py --write README.md  # the model table between the marks in it
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
    launch('paper_tables')
