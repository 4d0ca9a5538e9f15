"""Makes the generator importable and gives the tests small data sets."""

import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[3] / 'tools' / 'dataset_tools'
sys.path.insert(0, str(TOOLS))


@pytest.fixture(scope='session')
def make_set(tmp_path_factory):
    """Generate a data set in this process and return its folder."""
    import generate_data

    def make(kind, *args):
        dest = tmp_path_factory.mktemp('sets') / kind
        assert generate_data.main([kind, str(dest), *map(str, args)]) == 0
        return dest

    return make
