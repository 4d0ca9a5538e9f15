"""Makes the tool importable and gives the tests small sets to look at."""

import sys
from functools import partial
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[3] / 'tools' / 'dataset_tools'
sys.path.insert(0, str(TOOLS))


@pytest.fixture
def run_cli(run_python, tmp_path):
    """Run the tool as a user would."""
    return partial(run_python, TOOLS / 'generate_data.py', cwd=tmp_path)


@pytest.fixture(scope='session')
def make_set(tmp_path_factory):
    """Make a set in this process and return its folder."""
    import generate_data

    def make(kind, *args):
        dest = tmp_path_factory.mktemp('sets') / kind
        assert generate_data.main([kind, str(dest), *map(str, args)]) == 0
        return dest

    return make


@pytest.fixture
def files_of():
    """All files of a folder with their bytes."""

    def read(folder):
        paths = (path for path in sorted(folder.rglob('*')) if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    return read
