"""Running the tools, as programs or in this process."""

import logging

import pytest

from mmcnnmod.ops import DeployedMoDBlock

from ..utils.tasks import arguments, data, shrink, trained  # noqa: F401
from ..utils.warm_python import run_program


@pytest.fixture(scope='session')
def run_tool():
    """Run a program as a user would, in the folder ``cwd``."""
    return run_program


@pytest.fixture
def in_process(tmp_path, monkeypatch):
    """Set up this process to run a tool's main; a program would take seconds to start."""
    monkeypatch.chdir(tmp_path)
    # mmengine's loggers keep the captured streams of earlier tests, which are closed by now.
    monkeypatch.setattr(logging, 'raiseExceptions', False)


@pytest.fixture
def fails(capsys, in_process):
    """Run a tool's main in this process; returns the error line that it ends with."""
    pytest.importorskip('mmseg')

    def run(main, *arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert end.value.code == 1
        printed = capsys.readouterr()
        assert 'Traceback' not in printed.err + printed.out
        lines = [line for line in printed.err.splitlines() if line.startswith('error: ')]
        assert len(lines) == 1, printed.err
        assert printed.err.rstrip().endswith(lines[0])
        return lines[0]

    return run


@pytest.fixture
def deployed_blocks(monkeypatch):
    """A list of the deployed blocks that have run."""
    blocks, forward = [], DeployedMoDBlock.forward

    def recorded_forward(self, x):
        blocks.append(self)
        return forward(self, x)

    monkeypatch.setattr(DeployedMoDBlock, 'forward', recorded_forward)
    return blocks


@pytest.fixture
def options(data):  # noqa: F811
    """The options of a small training of a segmentor."""
    _, *options = arguments('mmseg', data)
    return [*options, '--cfg-options', *shrink('mmseg')]
