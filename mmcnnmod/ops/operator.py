"""The operator ``torch.ops.mmcnnmod.mod_block_``: for CPUs in C++, for CUDA in Triton.

For CPUs it is compiled once per machine, by `make setup` (``python -m mmcnnmod.ops``) or by the
first deployed network. The library is stored with torch's other extensions, see
TORCH_EXTENSIONS_DIR.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sysconfig
import tempfile
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from mmengine.logging import print_log

from ..files import atomic_write

LIBRARY = torch.library.Library('mmcnnmod', 'DEF')
LIBRARY.define(
    'mod_block_(Tensor(a!) x, Tensor weights, int hidden, int[] layers, bool last) -> ()'
)
# For inference only: the caller makes sure that no gradients are recorded.
LIBRARY.impl('mod_block_', torch.library.fallthrough_kernel, 'Autograd')
SOURCE = Path(__file__).with_name('mod_block.cpp')
# Compiler flags by torch's name of the instruction set. -march=native would be wrong if different
# machines share the folder of extensions.
INSTRUCTIONS = {
    'AVX512': ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma'],
    'AVX2': ['-mavx2', '-mfma'],
}


@lru_cache(None)
def operator_problem(device: str = 'cpu') -> str | None:
    """Load the operator, once per process. For CPUs, compile it first if needed.

    Args:
        device (str): 'cpu', 'cuda' or another type of device. Defaults to 'cpu'.

    Returns:
        str | None: Why the operator is not available, in one line; None if it is available.
    """
    if device not in LOADERS:
        return f'there is none for {device}'
    try:
        LOADERS[device]()
        declare_fake()
    except Exception as problem:  # of the compiler, the file system or the loader
        return first_error(str(problem))
    return None


def load_cpu() -> None:
    """Load the library; build it if it is missing or does not load."""
    library = library_path()
    try:
        torch.ops.load_library(library)
    except OSError:
        build(library)


def load_cuda() -> None:
    """Import the kernels and run them once: Triton needs a C compiler."""
    import triton

    if int(triton.__version__.split('.')[0]) < 3:
        raise ImportError(f'Triton {triton.__version__} is too old, the operator needs 3')
    from .kernels import mod_block_

    x = torch.zeros(1, 4, 2, 2, device='cuda')
    mod_block_(x, torch.zeros(12, device='cuda'), 1, [1, 1, 1, 1, 1] * 2, False)
    torch.cuda.synchronize()
    LIBRARY.impl('mod_block_', mod_block_, 'CUDA')


LOADERS = {'cpu': load_cpu, 'cuda': load_cuda}


@lru_cache(None)
def declare_fake() -> None:
    """Tell torch.compile that the operator returns nothing; torch 2.1 does not need it."""
    if hasattr(torch.library, 'register_fake'):
        torch.library.register_fake('mmcnnmod::mod_block_')(lambda *arguments: None)


def library_path() -> Path:
    """The path of the compiled operator, for this source, torch version and instruction set."""
    content = sha256(SOURCE.read_bytes() + ' '.join(flags()).encode()).hexdigest()[:8]
    name = re.sub(r'\W', '_', f'mmcnnmod_{torch.__version__}_{capability()}_{content}')
    # The folder of torch.utils.cpp_extension, whose import takes longer than loading the operator.
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    root = os.environ.get('TORCH_EXTENSIONS_DIR') or cache / 'torch_extensions'
    return Path(root, name, 'mod_block.so')


def build(library: Path) -> None:
    """Compile the operator, load it and store it.

    Each process compiles in its own folder, so that other processes and killed builds do not
    matter.
    """
    from torch.utils import cpp_extension

    print_log(
        f'Compiling the operator for deployed MoD blocks, once for this machine ({library})',
        logger='current',
        level=logging.INFO,
    )
    path = os.environ.get('PATH', os.defpath)
    # ninja is found even if the environment is not activated.
    os.environ['PATH'] = os.pathsep.join([sysconfig.get_path('scripts'), path])
    try:
        with atomic_write(library) as partial, tempfile.TemporaryDirectory() as folder:
            cpp_extension.load(
                'mod_block',
                [str(SOURCE)],
                extra_cflags=flags(),
                build_directory=folder,
                is_python_module=False,
            )
            shutil.copy(Path(folder, library.name), partial)
    finally:
        os.environ['PATH'] = path


def flags() -> list[str]:
    """The compiler's flags. -fopenmp is not passed to the linker: the operator uses torch's."""
    return ['-O3', '-fopenmp', *INSTRUCTIONS.get(capability(), [])]


def capability() -> str:
    """The instruction set that torch uses on this processor, such as 'AVX512'."""
    return torch.backends.cpu.get_cpu_capability()


def first_error(text: str) -> str:
    """The first error in a build's output, or else its first line."""
    lines = text.strip().splitlines() or ['no reason was given']
    return next((line for line in lines if 'error:' in line), lines[0])
