"""The programs under their old names in tools/misc print their new path and run."""

import os
import runpy
import sys

import pytest

from ..conftest import ROOT


@pytest.mark.parametrize('name', ['sweep_upstream_configs.py', 'write_metafile.py'])
def test_old_name_runs_the_program(name, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(os, 'execv', lambda program, words: started.append((program, words)))
    old, new = str(ROOT / 'tools/misc' / name), str(ROOT / '.dev_scripts' / name)
    monkeypatch.setattr(sys, 'argv', [old, '--seed', '1'])
    runpy.run_path(old, run_name='__main__')
    assert started == [(sys.executable, [sys.executable, new, '--seed', '1'])]
    assert os.path.isfile(new)
    assert f'run {new}' in capsys.readouterr().err
