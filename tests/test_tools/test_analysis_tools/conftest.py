"""Makes the programs in tools/analysis_tools importable."""

import sys

from ...utils.tasks import ROOT

sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))
