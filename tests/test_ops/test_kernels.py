"""The operator for CUDA on a machine without a GPU: run by Triton's interpreter, and compiled."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

pytest.importorskip('triton', minversion='3')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason='covered by tests/test_gpu'),
]
ROOT = Path(__file__).resolve().parents[2]
PREPARE = """
    import torch
    from mmcnnmod.layers import basic_block, bottleneck
    from mmcnnmod.ops import fold_batch_norms, kernels
    from mmcnnmod.ops.deployed_block import packed_weights
    from tests.utils.blocks import make_eval_block

    def make(width, conv_block, c, position='first'):
        torch.manual_seed(0)
        block = make_eval_block(width, conv_block, c=c, position=position).requires_grad_(False)
        fold_batch_norms(block.conv_block)
        return block
"""


def run(code, **variables):
    """Run code in a new process: Triton reads its environment variables once."""
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(PREPARE) + textwrap.dedent(code)],
        env={**os.environ, 'PYTHONPATH': str(ROOT), **variables},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


def test_kernels_compute_the_mod_block():
    lines = run(
        """
        for width, conv_block, c, size, position, batch in (
            (96, bottleneck, 24, (5, 5), 'first', 1),
            (64, bottleneck, 8, (3, 3), 'last', 2),
            (32, bottleneck, 8, (2, 3), 'first', 17),
            (32, basic_block, 8, (11, 13), 'last', 1),
            (32, bottleneck, 1, (4, 1), 'first', 1),
        ):
            block = make(width, conv_block, c, position)
            for layout in (torch.contiguous_format, torch.channels_last):
                x = torch.rand(batch, width, *size) + torch.rand(batch, width, 1, 1)
                expected = block(x)
                x = x.contiguous(memory_format=layout)
                kernels.mod_block_(x, *packed_weights(block), position == 'last')
                torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-5)
                print('equal')
        """,
        TRITON_INTERPRET='1',
    )
    assert lines.count('equal') == 10


def test_equal_logits_nan_and_empty_maps():
    run(
        """
        block = make(32, bottleneck, 8)
        torch.nn.init.zeros_(block.selector.fc2.weight)
        x = torch.rand(3, 32, 4, 4)
        processed = block.conv_block(x[:, : block.k])  # all are equal: the first k
        expected = x.clone()
        expected[:, : block.k] += 0.5 * processed
        x[1] = torch.nan
        kernels.mod_block_(x, *packed_weights(block), False)
        torch.testing.assert_close(x[[0, 2]], expected[[0, 2]], rtol=1e-4, atol=1e-5)
        assert x[1].isnan().all()
        kernels.mod_block_(torch.empty(0, 32, 4, 4), *packed_weights(block), False)
        """,
        TRITON_INTERPRET='1',
    )


def test_kernels_compile_without_tf32_and_spilled_registers():
    lines = run(
        """
        from triton.backends.compiler import GPUTarget
        from triton.runtime import JITFunction, driver

        class Driver:
            get_current_target = lambda self: GPUTarget('cuda', 90, 32)
            get_current_device = lambda self: 0
            get_current_stream = lambda self, device=None: 0

        def compile_only(kernel, *args, grid, warmup, **options):
            compiled = launch(kernel, *args, grid=grid, warmup=True, **options)
            assert compiled.asm['cubin']
            assert 'tf32' not in compiled.asm['ptx'] and 'st.local' not in compiled.asm['ptx']
            print(kernel.fn.__name__)

        driver.set_active(Driver())
        launch, JITFunction.run = JITFunction.run, compile_only
        for width, conv_block, c, side, batch, dtype in (
            (256, bottleneck, 64, 56, 1, torch.bfloat16),
            (512, bottleneck, 8, 14, 16, torch.float32),
        ):
            block = make(width, conv_block, c)
            x = torch.empty(batch, width, side, side, dtype=dtype)
            x = x.to(memory_format=torch.channels_last)
            kernels.mod_block_(x, *packed_weights(block), False)
        """,
        TRITON_INTERPRET='0',
    )
    assert lines == 2 * ['pool', 'linear', 'linear', 'rank', 'convolve', 'convolve', 'convolve']
