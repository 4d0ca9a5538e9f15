"""Shared fixtures, and how the tests are distributed to processes."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .utils.warm_python import quiet_environment, read_indexes_once, run_program

TOOLBOXES = ('mmdet', 'mmpretrain', 'mmseg')
# Expensive fixtures that files share: tests of files with the same fixture run in one process.
SHARED_FIXTURES = {
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
# Folders with the longest tests, which start first.
LONG = {'test_dev_scripts', 'test_tools'}
ROOT = Path(__file__).resolve().parents[1]
GIGABYTES = 3  # memory per process, with the programs that its tests start

if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ.setdefault('OMP_NUM_THREADS', '1')  # read when torch is loaded


def pytest_addoption(parser):
    parser.addoption(
        '--device', default='cuda', help="where tests marked gpu run; 'cpu' tries the tests"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """As many processes as cores and memory allow."""
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    limit = Path('/sys/fs/cgroup/memory.max')  # of a container
    if limit.is_file() and limit.read_text().strip() != 'max':
        memory = min(memory, int(limit.read_text()))
    return max(1, min(len(os.sched_getaffinity(0)), memory // (GIGABYTES * 10**9)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run tests that share a fixture in one process; xdist's groups fail with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class SharedFixtureScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            # torch's compiler prepares its headers once per process.
            if 'inductor' in nodeid:
                return 'inductor'
            return SHARED_FIXTURES.get(nodeid.split('::')[0], nodeid)

    return SharedFixtureScheduling(config, log)


def pytest_collection_modifyitems(config, items):
    """With several processes, start the longest tests first."""
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


@pytest.fixture(scope='session')
def run_python(tmp_path_factory):
    """Run a program as ``python ARGUMENTS`` does, without the seconds that imports take."""
    if importlib.import_module('torch').cuda.is_available():
        # A fork cannot use CUDA if its parent has initialised it.
        yield lambda *arguments, cwd=ROOT, forget=(), **env: run_program(
            sys.executable, *arguments, cwd=cwd, **env
        )
        return
    folder = tmp_path_factory.mktemp('programs')
    out, err = folder / 'out', folder / 'err'
    program = Path(__file__).with_name('utils') / 'warm_python.py'
    server = subprocess.Popen(
        [sys.executable, program], env=quiet_environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def run(*arguments, cwd=ROOT, forget=(), **env):
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
        job = dict(arguments=arguments, cwd=str(cwd), env=quiet_environment(**env), forget=forget)
        job.update(stdout=str(out), stderr=str(err))
        print(json.dumps(job), file=server.stdin, flush=True)
        code = server.stdout.readline()
        assert code, f'the server ended while it ran {arguments}'
        texts = (path.read_text(errors='replace') for path in (out, err))
        return subprocess.CompletedProcess(arguments, int(code), *texts)

    yield run
    # Closing its input is not enough: forks of this process, for example the pool of mmdet's
    # eval_map, may have inherited it.
    server.kill()
    server.wait()


@pytest.fixture
def compiled_graphs(monkeypatch):
    """The graphs given to torch.compile, which are not compiled: inductor takes a minute."""
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
