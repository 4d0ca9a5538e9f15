"""Shared fixtures: the toolboxes that are installed here, their MoD backbones, and programs."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .utils.warm_python import read_indexes_once

# Toolboxes are imported only by tests: the process that distributes the tests needs none.
TOOLBOXES = ('mmdet', 'mmpretrain', 'mmseg')
# The tests of files with the same name run in one process, because they share expensive fixtures.
TOGETHER = {
    'tests/test_tools/test_deploy.py': 'trained networks',
    'tests/test_tools/test_export.py': 'trained networks',
    'tests/test_tools/test_publish_model.py': 'trained networks',
    'tests/test_tools/test_toolbox_tools.py': 'trained networks',
    'tests/test_tools/test_train_and_test.py': 'trained networks',
    'tests/test_tools/test_analysis_tools/test_paper_tables.py': 'counts',
    'tests/test_dev_scripts/test_sweep/test_schedule.py': 'a worker',
    'tests/test_configs.py': 'built networks',
    'tests/test_packaging.py': 'packages',
}
# Their tests take longest, so that they begin first.
LONG = {'test_dev_scripts', 'test_tools'}
ROOT = Path(__file__).resolve().parents[1]
GIGABYTES = 3  # memory per process that runs tests, with the programs that they start

if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ.setdefault('OMP_NUM_THREADS', '1')  # read when torch is loaded


def pytest_addoption(parser):
    parser.addoption(
        '--device', default='cuda', help="where tests marked gpu run; 'cpu' tries the tests"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """The number of processes that cores and memory allow."""
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    limit = Path('/sys/fs/cgroup/memory.max')  # a container's
    if limit.is_file() and limit.read_text().strip() != 'max':
        memory = min(memory, int(limit.read_text()))
    return max(1, min(len(os.sched_getaffinity(0)), memory // (GIGABYTES * 10**9)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run tests that share something in one process; xdist's groups fail with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            # torch's compiler prepares its headers once per process.
            if 'inductor' in nodeid:
                return 'inductor'
            return TOGETHER.get(nodeid.split('::')[0], nodeid)

    return Together(config, log)


def pytest_collection_modifyitems(config, items):
    """With several processes, run the longest tests first."""
    if hasattr(config, 'workerinput'):
        items.sort(key=lambda item: not LONG.intersection(item.path.parts))


@pytest.fixture(scope='session', autouse=True)
def backbones_are_registered():
    importlib.import_module('mmcnnmod')
    read_indexes_once()


@pytest.fixture
def device(request):
    """The device of a test marked gpu, computing in full float32."""
    import torch

    name = request.config.getoption('--device')
    if name == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no GPU')
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield torch.device(name)
    torch.backends.cudnn.allow_tf32 = tf32


@pytest.fixture(params=TOOLBOXES)
def toolbox(request):
    """The name of each installed toolbox."""
    from mmcnnmod.toolboxes import MINIMUM_VERSIONS, is_absent

    assert set(TOOLBOXES) < set(MINIMUM_VERSIONS)
    if is_absent(request.param):
        pytest.skip(f'{request.param} is not installed')
    return request.param


@pytest.fixture
def backbones(toolbox):
    """The module with the MoD backbones of a toolbox."""
    return importlib.import_module(f'mmcnnmod.toolboxes.{toolbox}')


class WarmPython:
    """Runs programs in forks of a Python that has imported the toolboxes, see warm_python.py."""

    def __init__(self, folder):
        self.out, self.err = folder / 'out', folder / 'err'
        self.server = None
        # CUDA cannot be used in a fork after it was initialised.
        self.cold = importlib.import_module('torch').cuda.is_available()

    def __call__(self, *arguments, cwd=ROOT, forget=(), **env):
        """Run a program.

        Args:
            *arguments: The arguments of ``python``: a script, -m or -c, and what follows it.
            cwd: The working directory.
            forget: Names of packages that the program imports anew, from another path.
            **env: Additional environment variables.

        Returns:
            subprocess.CompletedProcess: The exit code, output and errors.
        """
        arguments = [str(part) for part in arguments]
        own = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
        env = {**own, **env}
        if self.cold:
            return subprocess.run(
                [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True
            )
        if self.server is None:
            program = Path(__file__).with_name('utils') / 'warm_python.py'
            self.server = subprocess.Popen(
                [sys.executable, program], env=own, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        job = dict(arguments=arguments, cwd=str(cwd), env=env, forget=forget)
        job.update(stdout=str(self.out), stderr=str(self.err))
        print(json.dumps(job), file=self.server.stdin, flush=True)
        code = self.server.stdout.readline()
        assert code, f'the Python that has the toolboxes imported has ended, at {arguments}'
        code = int(code)
        texts = (path.read_text(errors='replace') for path in (self.out, self.err))
        return subprocess.CompletedProcess(arguments, code, *texts)

    def end(self):
        """Stop the server, if it was started.

        Closing its input is not enough, because forks of this process may have inherited it, for
        example the pool of mmdet's eval_map.
        """
        if self.server is not None:
            self.server.kill()
            self.server.wait()


@pytest.fixture(scope='session')
def run_python(tmp_path_factory):
    """Run a program as ``python ARGUMENTS`` does, without the seconds that the imports take."""
    python = WarmPython(tmp_path_factory.mktemp('programs'))
    yield python
    python.end()


@pytest.fixture
def compiled_graphs(monkeypatch):
    """What torch.compile was given to compile; without inductor, which takes a minute."""
    import torch

    compile, found = torch.compile, []

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(
        torch, 'compile', lambda part, **options: compile(part, backend=backend, **options)
    )
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()
