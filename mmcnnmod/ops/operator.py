"""The operator ``torch.ops.mmcnnmod.mod_block_``: for CPUs in C++, for CUDA in Triton.

For CPUs it is compiled once for a machine: by `make setup` (``python -m mmcnnmod.ops``), otherwise
by the first deployed network. The library lies among torch's extensions, in the folder that
TORCH_EXTENSIONS_DIR names.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from mmengine.logging import print_log

LIBRARY = torch.library.Library('mmcnnmod', 'DEF')
LIBRARY.define(
    'mod_block_(Tensor(a!) x, Tensor weights, int hidden, int[] layers, bool last) -> ()'
)
# For inference alone: its caller sees to it that no gradients are recorded.
LIBRARY.impl('mod_block_', torch.library.fallthrough_kernel, 'Autograd')
SOURCE = Path(__file__).with_name('mod_block.cpp')
# For what torch itself takes the processor. Not -march=native: machines that differ may share the
# folder of extensions.
INSTRUCTIONS = {
    'AVX512': ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma'],
    'AVX2': ['-mavx2', '-mfma'],
}


@lru_cache(None)
def operator_problem(device: str = 'cpu') -> str | None:
    """Load the operator, once per process; for CPUs compile it first if that was never done.

    Args:
        device (str): 'cpu', 'cuda' or another type of device. Defaults to 'cpu'.

    Returns:
        str | None: Why there is none, in one line; None if there is one.
    """
    if device not in LOADERS:
        return f'there is none for {device}'
    try:
        LOADERS[device]()
        declare_fake()
    except Exception as problem:  # whatever a compiler, a file system or a loader may bring up
        return first_error(str(problem))
    return None


def load_cpu() -> None:
    """Load the library, or build it."""
    library = library_path()
    try:
        torch.ops.load_library(library)
    except OSError:  # it is not there, or does not load
        build(library)


def load_cuda() -> None:
    """Import the kernels and try them on small maps; Triton compiles with a C compiler."""
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
    """Tell torch.compile that the operator returns nothing; torch 2.1 does without."""
    if hasattr(torch.library, 'register_fake'):
        torch.library.register_fake('mmcnnmod::mod_block_')(lambda *arguments: None)


def library_path() -> Path:
    """Where the compiled operator lies: another place for another source, torch or processor."""
    content = sha256(SOURCE.read_bytes() + ' '.join(flags()).encode()).hexdigest()[:8]
    name = re.sub(r'\W', '_', f'mmcnnmod_{torch.__version__}_{capability()}_{content}')
    # As in torch.utils.cpp_extension, whose import takes longer than loading the operator.
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    root = os.environ.get('TORCH_EXTENSIONS_DIR') or cache / 'torch_extensions'
    return Path(root, name, 'mod_block.so')


def build(library: Path) -> None:
    """Compile the operator, load it and keep it; in the end the file is there whole or not at all.

    Each process compiles in a folder of its own, so that neither a killed build nor another process
    is in the way.
    """
    from torch.utils import cpp_extension

    print_log(
        f'Compiling the operator for deployed MoD blocks, once for this machine ({library})',
        logger='current',
        level=logging.INFO,
    )
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, own_ninja():
        cpp_extension.load(
            'mod_block',
            [str(SOURCE)],
            extra_cflags=flags(),
            build_directory=folder,
            is_python_module=False,
        )
        partial = library.with_name(f'{os.getpid()}.partial')
        shutil.copy(Path(folder, library.name), partial)
        partial.replace(library)


def flags() -> list[str]:
    """For the compiler. Nothing is linked with OpenMP, so that the operator uses torch's."""
    return ['-O3', '-fopenmp', *INSTRUCTIONS.get(capability(), [])]


def capability() -> str:
    """For which instructions torch takes the processor, such as 'AVX512'."""
    return torch.backends.cpu.get_cpu_capability()


@contextmanager
def own_ninja() -> Iterator[None]:
    """Within it, the ninja of this environment is found, also if nobody activated it."""
    path = os.environ.get('PATH', os.defpath)
    os.environ['PATH'] = os.pathsep.join([sysconfig.get_path('scripts'), path])
    try:
        yield
    finally:
        os.environ['PATH'] = path


def first_error(text: str) -> str:
    """The line of a build's output that says most."""
    lines = text.strip().splitlines() or ['no reason was given']
    return next((line for line in lines if 'error:' in line), lines[0])
