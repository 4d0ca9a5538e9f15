"""Moved to .dev_scripts/sweep_upstream_configs.py; the next release removes this file."""

import os
import sys
from pathlib import Path

program = Path(__file__).resolve().parents[2] / '.dev_scripts/sweep_upstream_configs.py'
print(f'this program has moved: run {program}', file=sys.stderr)
os.execv(sys.executable, [sys.executable, str(program), *sys.argv[1:]])
