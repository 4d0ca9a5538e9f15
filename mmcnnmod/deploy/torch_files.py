"""Files that torch itself runs, without this package: TorchScript, torch.export, AOTInductor."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import UserError
from .exported_file import AXES, BATCH, HEIGHT, WIDTH, Export, ExportedFile

METADATA = 'mmcnnmod.json'  # within the archive
KEY = 'mmcnnmod'  # of a package's metadata


class TorchFile(ExportedFile):
    """What the formats of torch have in common."""

    network = None

    def compute(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """See :class:`ExportedFile`."""
        with SeenSelections() as seen:
            outputs = self.network(images)
        return list(outputs), seen.chosen[: len(self.selectors)]


class SeenSelections(TorchDispatchMode):
    """Keeps what ``topk`` chooses: at first, for the backbone comes first, in the selectors."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: list[Tensor] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Called for every operator."""
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.topk.default:
            self.chosen.append(result[1])
        return result


class TorchScriptFile(TorchFile):
    """TorchScript, by tracing; it does not script, as the toolboxes' dense models do not."""

    suffix = '.pt'

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """See :class:`ExportedFile`."""
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')
            traced = torch.jit.trace(export.part, export.images, check_trace=False)
            metadata = json.dumps(export.metadata('torch.jit.trace'))
            traced.save(str(path), _extra_files={METADATA: metadata})

    def open(self, precision: str) -> None:
        """See :class:`ExportedFile`."""
        content = {METADATA: ''}
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            self.network = torch.jit.load(str(self.path), 'cpu', _extra_files=content)
        self.metadata = json.loads(content[METADATA])


class ExportedProgramFile(TorchFile):
    """torch.export's archive."""

    suffix = '.pt2'
    takes_detectors = False  # with numbers of boxes unlike the example's its assertions fail

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """See :class:`ExportedFile`."""
        metadata = json.dumps(export.metadata('torch.export', export.stride))
        torch.export.save(exported_program(export), path, extra_files={METADATA: metadata})

    def open(self, precision: str) -> None:
        """See :class:`ExportedFile`."""
        content = {METADATA: ''}
        self.network = torch.export.load(self.path, extra_files=content).module()
        self.metadata = json.loads(content[METADATA])


class AOTInductorFile(TorchFile):
    """AOTInductor's package: compiled for the processor of this machine; it takes a minute."""

    suffix = '.pt2'
    takes_detectors = False
    shows_selections = False

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """See :class:`ExportedFile`."""
        if not hasattr(torch._inductor, 'aoti_compile_and_package'):
            raise UserError(f'torch {torch.__version__} has no AOTInductor packages; 2.12 has')
        metadata = json.dumps(export.metadata('AOTInductor', export.stride))
        torch._inductor.aoti_compile_and_package(
            exported_program(export),
            package_path=str(path),
            inductor_configs={'aot_inductor.metadata': {KEY: metadata}},
        )

    def open(self, precision: str) -> None:
        """See :class:`ExportedFile`."""
        self.network = torch._inductor.aoti_load_package(str(self.path))
        self.metadata = json.loads(self.network.get_metadata()[KEY])


def exported_program(export: Export) -> torch.export.ExportedProgram:
    """The graph of a part.

    Other heights and widths are multiples of the stride: for the odd ones between them a strided
    convolution rounds, which torch.export would take for conditions.
    """
    if not hasattr(torch.export, 'Dim'):
        raise UserError(f'torch {torch.__version__} does not export other batches; 2.12 does')
    shapes, images = {}, export.images
    if BATCH in export.dynamic:
        shapes[BATCH] = torch.export.Dim('batch')
    if HEIGHT in export.dynamic:
        for axis in (HEIGHT, WIDTH):
            shapes[axis] = export.stride * torch.export.Dim(f'{AXES[axis]}_in_strides', min=2)
        # An example of twice the smallest size: where a map has one pixel, other rules hold.
        images = images.new_zeros(len(images), 3, 4 * export.stride, 6 * export.stride)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        return torch.export.export(export.part, (images,), dynamic_shapes=(shapes,), strict=False)
