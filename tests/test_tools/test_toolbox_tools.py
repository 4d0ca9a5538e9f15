"""The toolboxes' tools for looking at configs and models, on ours."""

import importlib.util
from pathlib import Path

import pytest

from ..utils.tasks import TASKS, tail

pytestmark = pytest.mark.slow
ANALYSIS = 'analysis_tools'
# The tool, its arguments and what it prints or, if that is None, draws; CONFIG and so on are files.
TOOLS = [
    ('mmpretrain', f'{ANALYSIS}/get_flops.py', 'CONFIG --shape 64', 'Flops'),
    ('mmpretrain', f'{ANALYSIS}/analyze_logs.py', 'cal_train_time LOG', 'average iter time'),
    ('mmseg', f'{ANALYSIS}/get_flops.py', 'CONFIG --shape 32 64', 'Flops'),
    ('mmseg', f'{ANALYSIS}/browse_dataset.py', 'CONFIG --output-dir OUT --not-show', None),
    ('mmseg', f'{ANALYSIS}/benchmark.py', 'CONFIG CHECKPOINT --repeat-times 1', 'Average fps'),
    ('mmdet', f'{ANALYSIS}/get_flops.py', 'CONFIG --num-images 1', 'Flops'),
]


@pytest.mark.parametrize(('toolbox', 'tool', 'arguments', 'word'), TOOLS)
def test_tool(toolbox, tool, arguments, word, trained, run_python, tmp_path):
    pytest.importorskip(toolbox)
    work_dir, _ = trained(toolbox)
    out = tmp_path / 'out'
    files = {
        'CONFIG': work_dir / Path(TASKS[toolbox][0]).name,
        'CHECKPOINT': work_dir / TASKS[toolbox][3],
        'LOG': next(work_dir.glob('*/vis_data/scalars.json'), None),
        'OUT': out,
    }
    program = Path(importlib.util.find_spec(toolbox).origin).parent / '.mim' / 'tools' / tool
    result = run_python(
        program, *(files.get(part, part) for part in arguments.split()), cwd=work_dir
    )
    assert result.returncode == 0, tail(result)
    if word:
        assert word in result.stdout
    else:
        assert list(tmp_path.rglob('*.png')) + list(tmp_path.rglob('*.jp*g')), tail(result)
