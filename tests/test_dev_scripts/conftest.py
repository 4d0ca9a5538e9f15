"""The maintainers' programs and their modules lie in a folder that is no package."""

import sys

from ..conftest import ROOT

sys.path.insert(0, str(ROOT / '.dev_scripts'))
