"""The Triton path: its kernels in processes of their own, its conditions everywhere.

On a GPU: ``pytest tests/test_layers/test_backends/test_triton_block.py``.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmcnnmod.layers import MoDBlock, bottleneck
from mmcnnmod.layers.backends import triton_block

HERE = Path(__file__).parent
WHERE = {
    'interpreter': dict(TRITON_INTERPRET='1', CUDA_VISIBLE_DEVICES=''),
    'cuda': dict(TRITON_INTERPRET='0'),
}


def run_python(*arguments, **environment):
    """Run Python in a process of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=HERE.parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def skip_without_triton():
    problem = triton_block.device_problem(torch.device('cpu'))
    if problem:
        pytest.skip(problem)


@pytest.mark.parametrize('where', WHERE)
def test_the_kernels_compute_the_definition(where):
    skip_without_triton()
    if where == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no GPU')
    options = ('-q', '-p', 'no:cacheprovider', '--durations=5')
    printed = run_python('-m', 'pytest', *options, HERE / 'triton_cases.py', **WHERE[where])
    print(printed)
    assert ' passed' in printed  # pytest is content as well where everything is skipped


def test_the_kernels_compile_without_a_gpu(tmp_path):
    skip_without_triton()
    environment = dict(TRITON_INTERPRET='0', TRITON_CACHE_DIR=str(tmp_path))
    printed = run_python(HERE / 'triton_compilation.py', **environment)
    assert printed.split() == ['pool', 'select', 'enter', 'leave'] * 2


def test_without_cuda_there_is_a_reason():
    block, x = MoDBlock(16, bottleneck, c=8).eval(), torch.rand(1, 16, 2, 2)
    reason = triton_block.why_not(block, x)
    assert 'not on CUDA' in reason or 'is too old' in reason


def test_without_triton_there_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, 'triton', None)
    specification = importlib.util.find_spec('mmcnnmod.layers.backends.triton_block')
    fresh = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(fresh)
    assert 'Triton cannot be imported' in fresh.device_problem(torch.device('cpu'))


def test_the_compiler_is_told_at_once():
    if not hasattr(torch.compiler, 'is_compiling'):
        pytest.skip('this PyTorch is too old for the kernels')
    torch._dynamo.reset()
    block, x = MoDBlock(16, bottleneck, c=8).eval(), torch.rand(1, 16, 2, 2)

    def forward(x):
        reason = triton_block.why_not(block, x)
        return x + 1 if 'torch.compile' in reason else x

    assert torch.equal(torch.compile(forward, fullgraph=True, backend='eager')(x), x + 1)
