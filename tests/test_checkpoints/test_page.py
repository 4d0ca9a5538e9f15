"""What docs/checkpoints.md shows: its Python runs, its commands are ones that the tool knows."""

import re
import shlex
from pathlib import Path

import torch

from mmcnnmod.cli.publish import publish_parser

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'checkpoints.md'


def blocks(language):
    return re.findall(rf'```{language}\n(.*?)```', PAGE.read_text(), re.DOTALL)


def test_python(tmp_path):
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta={}), tmp_path / 'a.pth')
    init_cfg, reading = blocks('python')
    names = {}
    exec(init_cfg, names)
    assert names['init_cfg']['prefix'] == 'backbone.'
    exec(reading.replace('CHECKPOINT', str(tmp_path / 'a.pth')), names)
    assert set(names['weights']) == {'a'}
    assert set(names['content']) == {'state_dict', 'meta'}


def test_commands():
    (commands,) = blocks('shell')
    for command in commands.splitlines():
        program, tool, *arguments = shlex.split(command)
        assert program == 'python'
        assert (PAGE.parents[1] / tool).is_file()
        publish_parser().parse_args(arguments)
