"""Train a plan of experiments, or a config with several seeds: python run.py PLAN [options]."""

import os
import sys

# Read when torch is loaded, see tools/train.py.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

if __name__ == '__main__':
    try:
        from runner import main
    except ImportError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    main()
