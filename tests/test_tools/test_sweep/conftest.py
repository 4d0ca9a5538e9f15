"""The sweep's modules, which lie beside the program and not in a package."""

import sys

from ..conftest import ROOT

sys.path.insert(0, str(ROOT / 'tools' / 'misc'))
