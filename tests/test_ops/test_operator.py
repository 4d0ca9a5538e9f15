"""The operator: registration, build and arguments."""

import pytest
import torch

from mmcnnmod.layers import basic_block
from mmcnnmod.ops import DeployedMoDBlock
from mmcnnmod.ops.operator import first_error, library_path

from ..utils.blocks import make_eval_block

pytestmark = pytest.mark.usefixtures('operator')


def arguments():
    torch.manual_seed(0)
    block = DeployedMoDBlock(make_eval_block(24, basic_block, c=6))
    return block.weights.detach(), block.hidden, block.layers, False


@pytest.mark.skipif(not hasattr(torch.library, 'opcheck'), reason='torch is too old')
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_opcheck(layout):
    rest = arguments()
    x = torch.rand(2, 24, 5, 4).to(memory_format=layout)
    torch.library.opcheck(torch.ops.mmcnnmod.mod_block_.default, (x, *rest))


def test_wrong_arguments_raise_an_error():
    weights, hidden, layers, last = arguments()
    x = torch.rand(2, 24, 5, 4)
    for wrong in [
        (x[:, :23], weights, hidden, layers, last),
        (x[0], weights, hidden, layers, last),
        (x, weights[:-1], hidden, layers, last),
        (x, weights, hidden + 1, layers, last),
        (x, weights, hidden, layers[:5], last),
        (x, weights, hidden, [], last),
        (x, weights, hidden, [*layers[:5], 3, *layers[6:]], last),
        (x, weights, hidden, [*layers[:3], -9, *layers[4:]], last),
        (x, weights, hidden, [*layers, 1], last),
        (x, weights.double(), hidden, layers, last),
        (x.double(), weights, hidden, layers, last),
    ]:
        with pytest.raises(RuntimeError):
            torch.ops.mmcnnmod.mod_block_(*wrong)


def test_other_memory_layouts():
    x = torch.rand(2, 24, 5, 4)
    transposed = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert not transposed.is_contiguous()
    rest = arguments()
    torch.ops.mmcnnmod.mod_block_(transposed, *rest)
    torch.ops.mmcnnmod.mod_block_(x, *rest)
    torch.testing.assert_close(transposed, x)


BUILD = """if True:
    from mmcnnmod.ops.operator import operator_problem
    print('problem:', operator_problem())
"""
TWICE = f"""if True:
    import subprocess, sys
    both = [subprocess.Popen([sys.executable, '-c', {BUILD!r}]) for _ in range(2)]
    sys.exit(any([process.wait() for process in both]))
"""


@pytest.fixture
def build(run_python):
    """Run the build in new processes with their own folder; returns what they printed."""

    def build(folder, code=BUILD, **variables):
        result = run_python('-c', code, TORCH_EXTENSIONS_DIR=str(folder), **variables)
        assert result.returncode == 0, result.stderr
        lines = result.stdout.splitlines()
        return [line.removeprefix('problem: ') for line in lines if line.startswith('problem:')]

    return build


@pytest.mark.slow
def test_library_is_built_once_by_two_processes_after_a_killed_build(build, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_EXTENSIONS_DIR', str(tmp_path))
    library = library_path()
    # Left by a build that was killed while it copied.
    library.parent.mkdir(parents=True)
    library.with_name('1.partial').write_bytes(b'half')
    library.write_bytes(b'no library')
    quick = tmp_path / 'quick'
    quick.write_text('#!/bin/sh\nexec c++ "$@" -O0\n')
    quick.chmod(0o755)
    # Without the environment's programs on the PATH, as if it were not activated.
    variables = dict(PATH='/usr/local/bin:/usr/bin:/bin', CXX=str(quick))
    assert build(tmp_path, TWICE, **variables) == ['None', 'None']
    written = library.stat().st_mtime_ns
    assert build(tmp_path, CXX='/no/compiler') == ['None']
    assert library.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ('missing', 'word'), [('compiler', 'no-compiler'), ('ninja', 'Ninja'), ('folder', 'a-file')]
)
def test_failed_builds_give_the_reason(build, tmp_path, missing, word):
    folder, code, variables = tmp_path / 'a-file', BUILD, {}
    if missing == 'compiler':
        variables['CXX'] = str(tmp_path / 'no-compiler')
    if missing == 'ninja':
        code = f'import sysconfig\nsysconfig.get_path = lambda *args: "/nowhere"\n{BUILD}'
        variables['PATH'] = str(tmp_path)
    if missing == 'folder':
        folder.write_text('')
    (problem,) = build(folder, code, **variables)
    assert word in problem


def test_first_error():
    output = 'Error building extension\n[1/2] c++ ...\nx.cpp:1: error: no room\nend'
    assert first_error(output) == 'x.cpp:1: error: no room'
    assert first_error('') == 'no reason was given'
