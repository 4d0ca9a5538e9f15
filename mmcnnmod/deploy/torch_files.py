"""Files that torch runs without this package: TorchScript, torch.export and AOTInductor."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import UserError
from .exported_file import AXES, BATCH, HEIGHT, WIDTH, Export, ExportedFile

METADATA = 'mmcnnmod.json'  # an extra file within the archive
KEY = 'mmcnnmod'  # in the metadata of an AOTInductor package


class TorchFile(ExportedFile):
    """Base class of the formats of torch."""

    def _compute(self, images: Tensor) -> list[Tensor]:
        with RecordedTopK() as recorded:
            outputs = self.network(images)
        return [*outputs, *recorded.indices]


class RecordedTopK(TorchDispatchMode):
    """Records the indices of all ``topk``; the first ones are those of the backbone's selectors."""

    def __init__(self) -> None:
        super().__init__()
        self.indices: list[Tensor] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.topk.default:
            self.indices.append(result[1])
        return result


class TorchScriptFile(TorchFile):
    """TorchScript by tracing; models of the toolboxes cannot be scripted, with MoD or without."""

    suffix = '.pt'

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """See :class:`ExportedFile`."""
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')
            traced = torch.jit.trace(export.part, export.images, check_trace=False)
            metadata = json.dumps(export.metadata('torch.jit.trace'))
            traced.save(str(path), _extra_files={METADATA: metadata})

    def _load(self, precision: str) -> dict[str, str]:
        content = {METADATA: ''}
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            self.network = torch.jit.load(str(self.path), 'cpu', _extra_files=content)
        return json.loads(content[METADATA])


class ExportedProgramFile(TorchFile):
    """The archive of torch.export."""

    suffix = '.pt2'
    supports_detectors = False  # fails if the number of boxes differs from the example's

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """See :class:`ExportedFile`."""
        metadata = json.dumps(export.metadata('torch.export', export.stride))
        torch.export.save(exported_program(export), path, extra_files={METADATA: metadata})

    def _load(self, precision: str) -> dict[str, str]:
        content = {METADATA: ''}
        self.network = torch.export.load(self.path, extra_files=content).module()
        return json.loads(content[METADATA])


class AOTInductorFile(TorchFile):
    """A package of AOTInductor, compiled for this machine's processor; compiling takes a minute."""

    suffix = '.pt2'
    supports_detectors = False
    shows_selections = False

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """See :class:`ExportedFile`."""
        if not hasattr(torch._inductor, 'aoti_compile_and_package'):
            raise UserError(
                f'torch {torch.__version__} has no AOTInductor packages; use torch 2.12'
            )
        metadata = json.dumps(export.metadata('AOTInductor', export.stride))
        torch._inductor.aoti_compile_and_package(
            exported_program(export),
            package_path=str(path),
            inductor_configs={'aot_inductor.metadata': {KEY: metadata}},
        )

    def _load(self, precision: str) -> dict[str, str]:
        self.network = torch._inductor.aoti_load_package(str(self.path))
        return json.loads(self.network.get_metadata()[KEY])


def exported_program(export: Export) -> torch.export.ExportedProgram:
    """Export a network by torch.export.

    Dynamic heights and widths are multiples of the stride: at sizes in between, strided
    convolutions round, which torch.export would turn into constraints.
    """
    if not hasattr(torch.export, 'Dim'):
        raise UserError(f'torch {torch.__version__} exports no dynamic batches; use torch 2.12')
    shapes, images = {}, export.images
    if BATCH in export.dynamic:
        shapes[BATCH] = torch.export.Dim('batch')
    if HEIGHT in export.dynamic:
        for axis in (HEIGHT, WIDTH):
            shapes[axis] = export.stride * torch.export.Dim(f'{AXES[axis]}_in_strides', min=2)
        # Larger than the smallest size, where the last map might have one pixel: torch.export
        # specialises on sizes of 1.
        images = images.new_zeros(len(images), 3, 4 * export.stride, 6 * export.stride)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        return torch.export.export(export.part, (images,), dynamic_shapes=(shapes,), strict=False)
