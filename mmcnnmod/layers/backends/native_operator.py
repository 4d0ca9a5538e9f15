"""The operator behind :mod:`native_block`, compiled and loaded when it is first wanted.

It is compiled for this machine and this torch. Torch keeps it among its extensions, in the folder
that TORCH_EXTENSIONS_DIR names, so that this happens once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from mmengine.logging import print_log

SOURCE = Path(__file__).with_name('native_block.cpp')
# For what torch itself takes the processor. Not -march=native: machines that differ may share the
# folder of extensions.
ARCHITECTURES = {'AVX512': ['-march=x86-64-v4'], 'AVX2': ['-march=x86-64-v3']}


# A compiler that traces the first forward shall build it, not look on.
@torch.compiler.assume_constant_result
def build_problem() -> str | None:
    """Why there is no operator, in one line; None if there is one."""
    operator = load_operator()
    return operator if isinstance(operator, str) else None


@lru_cache(None)
def load_operator() -> Callable | str:
    """Compile and load it, once per process.

    Returns:
        Callable | str: The operator, to be called past torch's dispatcher; within torch.compile it
        is ``torch.ops.mmcnnmod.mod_block_``. Or what went wrong, in one line.
    """
    try:
        from torch.utils import cpp_extension

        capability = torch.backends.cpu.get_cpu_capability()
        # Versions of this package beside each other shall not compile it in turns.
        content = sha256(SOURCE.read_bytes()).hexdigest()[:8]
        name = re.sub(r'\W', '_', f'mmcnnmod_{torch.__version__}_{capability}_{content}')
        print_log(
            'Loading the native MoD block; the first time it is compiled, in about a minute',
            logger='current',
            level=logging.INFO,
        )
        extension = cpp_extension.load(
            name,
            [str(SOURCE)],
            # Not linked with OpenMP: it shall find torch's, and share its threads.
            extra_cflags=['-O3', '-fopenmp', *ARCHITECTURES.get(capability, [])],
        )
        # What the operator returns, as far as a compiler that has no values is concerned.
        if hasattr(torch.library, 'register_fake'):
            torch.library.register_fake('mmcnnmod::mod_block_')(lambda *arguments: None)
    except Exception as problem:  # whatever a compiler, a file system or a loader may bring up
        return f'it could not be built: {first_error(str(problem))}'
    return extension.mod_block_


def first_error(text: str) -> str:
    """The line of a build's output that says most."""
    lines = text.strip().splitlines() or ['no reason was given']
    return next((line for line in lines if 'error:' in line), lines[0])
