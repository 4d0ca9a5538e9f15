"""Shared fixtures: the toolboxes that are installed here, their MoD backbones, and programs."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmcnnmod  # noqa: F401  (registers the backbones)
from mmcnnmod.toolboxes import MINIMUM_VERSIONS, is_absent


def pytest_addoption(parser):
    parser.addoption(
        '--device', default='cuda', help="where tests marked gpu run; 'cpu' tries the tests"
    )


@pytest.fixture
def device(request):
    """The device of a test marked gpu, computing in full float32."""
    name = request.config.getoption('--device')
    if name == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no GPU')
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield torch.device(name)
    torch.backends.cudnn.allow_tf32 = tf32


@pytest.fixture(params=sorted(MINIMUM_VERSIONS))
def toolbox(request):
    """Name of each toolbox in turn."""
    if is_absent(request.param):
        pytest.skip(f'{request.param} is not installed')
    return request.param


@pytest.fixture
def backbones(toolbox):
    """The module with the toolbox's MoD backbones."""
    return importlib.import_module(f'mmcnnmod.toolboxes.{toolbox}')


class WarmPython:
    """Runs programs in forks of one Python that has imported the toolboxes, see warm_python.py."""

    def __init__(self, folder):
        self.out, self.err = folder / 'out', folder / 'err'
        self.server = None

    def __call__(self, *arguments, cwd, **env):
        """As ``python ARGUMENTS`` does in a folder; gives what subprocess.run gives."""
        arguments = [str(part) for part in arguments]
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', **env}
        if torch.cuda.is_available():  # a GPU that was asked for its name is lost to forks
            return subprocess.run(
                [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True
            )
        if self.server is None:
            program = Path(__file__).with_name('warm_python.py')
            self.server = subprocess.Popen(
                [sys.executable, program], env=env, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        job = dict(arguments=arguments, cwd=str(cwd), env=env)
        job.update(stdout=str(self.out), stderr=str(self.err))
        print(json.dumps(job), file=self.server.stdin, flush=True)
        code = int(self.server.stdout.readline())
        texts = (path.read_text(errors='replace') for path in (self.out, self.err))
        return subprocess.CompletedProcess(arguments, code, *texts)

    def end(self):
        """End it, if it was started."""
        if self.server is not None:
            self.server.communicate()


@pytest.fixture(scope='session')
def run_python(tmp_path_factory):
    """Run a program as ``python ARGUMENTS`` does, without the seconds that the imports take."""
    python = WarmPython(tmp_path_factory.mktemp('programs'))
    yield python
    python.end()
