"""The error for a missing package is one line."""

import runpy
import sys

import pytest

from ...utils.tasks import ROOT


@pytest.mark.parametrize('program', ['benchmark', 'channel_usage', 'paper_tables', 'plot_tradeoff'])
def test_error_names_the_package_and_the_remedy(program, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcnnmod.errors', None)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / f'tools/analysis_tools/{program}.py'), run_name='__main__')
    assert end.value.code.startswith('error: import of mmcnnmod.errors halted')
    assert 'make setup' in end.value.code
    assert '\n' not in end.value.code
