"""Compile the Triton kernels for a GPU that is not there; run by test_triton_block.py.

The interpreter takes much that the compiler refuses. Prints the name of each compiled kernel.
"""

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from mmcnnmod.layers import MoDBlock, basic_block, bottleneck
from mmcnnmod.layers.backends import triton_block


class H100:
    """What the compiler asks of a driver."""

    def get_current_target(self):
        return GPUTarget('cuda', 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0


def compile_only(kernel, *args, grid, warmup, **options):
    compiled = run(kernel, *args, grid=grid, warmup=True, **options)
    assert 'st.local' not in compiled.asm['ptx']
    assert compiled.asm['cubin']
    print(kernel.fn.__name__)


driver.set_active(H100())
run, JITFunction.run = JITFunction.run, compile_only
with torch.no_grad():
    block = MoDBlock(256, bottleneck, c=64, position='original', order='index').eval()
    x = torch.empty(2, 256, 56, 56).contiguous(memory_format=torch.channels_last)
    triton_block.forward(block, x, overwrite=True)
    block = MoDBlock(64, basic_block, c=16, last_activation='after').eval().bfloat16()
    triton_block.forward(block, torch.empty(2, 64, 7, 7, dtype=torch.bfloat16))
