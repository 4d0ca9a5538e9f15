"""All export formats, and the loading of a file in any of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile, is_zipfile

from ..errors import UserError, cause
from .exported_file import ExportedFile, require_packages
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
        path (Path): A file written by `tools/deployment/export.py`.
        selectors (Sequence[str]): See :class:`ExportedFile`. Defaults to none.
        precision (str): See :class:`ExportedFile`. Defaults to 'f32'.

    Raises:
        UserError: If the file is missing or is not an exported network, or its runtime is missing.
    """
    if not path.is_file():
        raise UserError(f'{path} does not exist; tools/deployment/export.py writes it')
    kind = format_of(path)
    require_packages(kind.packages)
    try:
        names = ZipFile(path).namelist() if is_zipfile(path) else []
        if any('aotinductor' in name for name in names):  # has the suffix of torch.export
            kind = AOTInductorFile
        return kind(path, selectors, precision)
    except Exception as problem:  # each runtime has its own exceptions
        raise UserError(
            f'{path} cannot be loaded; was it written by tools/deployment/export.py? '
            f'{type(problem).__name__}: {cause(problem)[:300]}'
        ) from problem


def format_of(path: Path) -> type[ExportedFile]:
    """The default format of files with this suffix."""
    for kind in FORMATS.values():
        if kind.suffix == path.suffix:
            return kind
    known = ', '.join(dict.fromkeys(kind.suffix for kind in FORMATS.values()))
    raise UserError(f'{path} has an unknown suffix; use one of {known}')
