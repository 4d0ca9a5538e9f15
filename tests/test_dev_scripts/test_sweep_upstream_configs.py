"""The program .dev_scripts/sweep_upstream_configs.py, on one config."""

import json

import pytest

from ..conftest import ROOT
from ..utils.tasks import tail


def test_sample_of_one_config_works(run_python, tmp_path):
    pytest.importorskip('mmpretrain')
    result = run_python(
        ROOT / '.dev_scripts/sweep_upstream_configs.py', '--toolbox', 'mmpretrain',
        '--sample', '1', '--jobs', '1', '--json', 'sweep.json', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert '| mmpretrain | all | 1 | 1 | 1 | 0 | 0 | 0 |' in result.stdout
    (known,) = json.loads((tmp_path / 'sweep.json').read_text())['results'].values()
    assert known['outcome'] == 'works'
