"""The formats, and which one a file has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from ..errors import UserError, cause
from .exported_file import ExportedFile
from .onnx_file import OnnxFile
from .openvino_file import OpenVinoFile
from .torch_files import AOTInductorFile, ExportedProgramFile, TorchScriptFile

FORMATS: dict[str, type[ExportedFile]] = {
    'onnx': OnnxFile,
    'openvino': OpenVinoFile,
    'torchscript': TorchScriptFile,
    'torch-export': ExportedProgramFile,
    'aotinductor': AOTInductorFile,
}


def open_file(path: Path, selectors: Sequence[str] = (), precision: str = 'f32') -> ExportedFile:
    """Load an exported file.

    Args:
        path (Path): What `tools/deployment/export.py` wrote.
        selectors (Sequence[str]): See :class:`ExportedFile`. Defaults to none.
        precision (str): See :class:`ExportedFile`. Defaults to 'f32'.

    Returns:
        ExportedFile: Ready to run.

    Raises:
        UserError: If it is not there, is none of ours, or its runtime is missing.
    """
    if not path.is_file():
        raise UserError(f'{path} is not there; tools/deployment/export.py writes it')
    kind = kind_of(path)
    kind.check_packages()
    try:
        return kind(path, selectors, precision)
    except Exception as problem:  # each runtime has its own kinds
        raise UserError(
            f'{path} cannot be loaded; was it written by tools/deployment/export.py? '
            f'{type(problem).__name__}: {cause(problem)[:300]}'
        ) from problem


def kind_of(path: Path) -> type[ExportedFile]:
    """The class of a file, by its name; two formats of torch share one."""
    kinds = [kind for kind in FORMATS.values() if kind.suffix == path.suffix]
    if not kinds:
        known = ', '.join(sorted({kind.suffix for kind in FORMATS.values()}))
        raise UserError(f'{path} is no exported file: its name should end with one of {known}')
    if len(kinds) == 1:
        return kinds[0]
    try:
        names = ZipFile(path).namelist()
    except BadZipFile:
        names = []
    return AOTInductorFile if any('aotinductor' in name for name in names) else ExportedProgramFile
