"""The toolboxes' tools for analysis run with our configs and models."""

import importlib.util
from pathlib import Path

import pytest

from ..utils.tasks import TASKS, tail

pytestmark = pytest.mark.slow
ANALYSIS = 'analysis_tools'
# Toolbox, tool, arguments, and a part of the output; None for a tool that writes images.
TOOLS = [
    ('mmpretrain', f'{ANALYSIS}/get_flops.py', 'CONFIG --shape 64', 'Flops'),
    ('mmpretrain', f'{ANALYSIS}/analyze_logs.py', 'cal_train_time LOG', 'average iter time'),
    ('mmseg', f'{ANALYSIS}/get_flops.py', 'CONFIG --shape 32 64', 'Flops'),
    ('mmseg', f'{ANALYSIS}/browse_dataset.py', 'CONFIG --output-dir OUT --not-show', None),
    ('mmseg', f'{ANALYSIS}/benchmark.py', 'CONFIG CHECKPOINT --repeat-times 1', 'Average fps'),
    ('mmdet', f'{ANALYSIS}/get_flops.py', 'CONFIG --num-images 1', 'Flops'),
]


@pytest.mark.parametrize(('toolbox', 'tool', 'command', 'output'), TOOLS)
def test_tool(toolbox, tool, command, output, trained, run_python, tmp_path):
    pytest.importorskip(toolbox)
    work_dir, _ = trained(toolbox)
    task = TASKS[toolbox]
    files = {
        'CONFIG': work_dir / Path(task.config).name,
        'CHECKPOINT': work_dir / task.checkpoint,
        'LOG': next(work_dir.glob('*/vis_data/scalars.json')),
        'OUT': tmp_path / 'out',
    }
    program = Path(importlib.util.find_spec(toolbox).origin).parent / '.mim' / 'tools' / tool
    words = [files.get(word, word) for word in command.split()]
    result = run_python(program, *words, cwd=work_dir)
    assert result.returncode == 0, tail(result)
    if output:
        assert output in result.stdout
    else:
        assert list(tmp_path.rglob('*.png')) + list(tmp_path.rglob('*.jp*g')), tail(result)
