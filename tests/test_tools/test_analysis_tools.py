"""The model table: counts of built models, written between the marks of a file."""

import sys

from .conftest import ROOT, tail

TOOL = ROOT / 'tools/analysis_tools/model_table.py'


def test_model_table_agrees_with_the_paper(run_tool, tmp_path):
    readme = tmp_path / 'README.md'
    readme.write_text((ROOT / 'README.md').read_text())
    result = run_tool(
        sys.executable, TOOL, ROOT / 'configs/resnet18-mod_in1k.py',
        ROOT / 'configs/resnet26-mod_in1k.py', '--write', readme, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    rows = [line for line in readme.read_text().splitlines() if '_in1k.py)' in line]
    # Table 7: 5.46 M and 0.898 GMAC, which it cuts to 0.89; 11.40 M and 1.36 GMAC.
    assert [row.split('|')[2:4] for row in rows] == [[' 5.46 ', ' 0.90 '], [' 11.40 ', ' 1.36 ']]


def test_the_readme_has_todays_counts(run_tool, tmp_path):
    """The committed rows of some models are what the tool writes today."""
    names = ['resnet50-mod_in1k', 'fcn_r50-mod_cityscapes']
    result = run_tool(
        sys.executable, TOOL, *[ROOT / f'configs/{name}.py' for name in names], cwd=tmp_path
    )
    assert result.returncode == 0, tail(result)
    rows = [line for line in result.stdout.splitlines() if line.startswith('| [')]
    assert len(rows) == 2
    assert set(rows) <= set((ROOT / 'README.md').read_text().splitlines())
