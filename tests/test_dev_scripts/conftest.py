"""Makes the modules in .dev_scripts importable, which is not a package."""

import sys

from ..conftest import ROOT

sys.path.insert(0, str(ROOT / '.dev_scripts'))
