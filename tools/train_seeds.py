"""Moved to tools/experiments/run.py; the next release removes this path."""

import runpy
import sys
from pathlib import Path

print('tools/train_seeds.py is now tools/experiments/run.py', file=sys.stderr, flush=True)
sys.path[0] = str(Path(__file__).resolve().parent / 'experiments')
runpy.run_path(f'{sys.path[0]}/run.py', run_name='__main__')
