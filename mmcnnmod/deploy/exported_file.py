"""The common interface of all export formats: write a network to a file, load it and run it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError, cause
from .parts import Part

BATCH, HEIGHT, WIDTH = 0, 2, 3
AXES = {BATCH: 'batch', HEIGHT: 'height', WIDTH: 'width'}


@dataclass(frozen=True)
class Export:
    """A network to export, with the settings of the export.

    Attributes:
        part (Part): The network, in eval mode on the CPU.
        images (Tensor): An example input, shape (N, 3, H, W), float32 or uint8.
        dynamic (tuple[int, ...]): Axes of the images whose size may change afterwards.
        stride (int): The network's stride. torch.export needs dynamic heights and widths to be
            multiples of it.
        notes (dict[str, str]): Metadata that a user of the file needs.
        fp16 (bool): ONNX: compute in half precision, except for images, outputs and selectors.
            OpenVINO: store the weights in half precision. Defaults to False.
    """

    part: Part
    images: Tensor
    dynamic: tuple[int, ...]
    stride: int
    notes: dict[str, str]
    fp16: bool = False

    def metadata(self, exporter: str, multiple: int = 1) -> dict[str, str]:
        """The metadata to write into the file: the notes, and the inputs and outputs of the file.

        Args:
            exporter (str): The function of torch that writes the graph.
            multiple (int): The divisor of dynamic heights and widths. Defaults to 1.
        """
        sizes = [
            AXES[axis] if axis in self.dynamic else str(size)
            for axis, size in enumerate(self.images.shape)
        ]
        return {
            **self.notes,
            'exporter': f'{exporter}, torch {torch.__version__}',
            'outputs': ','.join(self.part.names),
            'shape': 'x'.join(sizes),
            'dtype': dtype_name(self.images),
            'multiple': str(multiple if HEIGHT in self.dynamic else 1),
        }


class ExportedFile:
    """An exported network, loaded on the CPU.

    A format implements :meth:`write`, :meth:`_load` and :meth:`_compute`.

    Args:
        path (Path): The file.
        selectors (Sequence[str]): Names of the channel selectors whose selections are returned.
            Selectors that no output depends on are left out: they are not in the file. Defaults
            to none.
        precision (str): 'f32', or 'default' for the runtime's own choice, which only OpenVINO
            has. Defaults to 'f32'.

    Attributes:
        metadata (dict[str, str]): The metadata of the file.
        names (list[str]): Names of the outputs.
        precision (str): The precision it computes in, such as 'f32' or 'bf16'.
        raw (bool): Whether it expects images that are not normalised.
    """

    suffix = ''
    weights_suffix: str | None = None  # of a second file, with the weights
    packages: tuple[str, ...] = ()
    supports_fp16 = False
    supports_detectors = True  # whole detectors, whose outputs have one item per box
    shows_selections = True
    precisions = ('f32',)

    def __init__(self, path: Path, selectors: Sequence[str] = (), precision: str = 'f32') -> None:
        self.path = path
        self.selectors = list(selectors)
        self.precision = 'f32'
        self.metadata = self._load(precision)
        self.names = self.metadata['outputs'].split(',')
        self.raw = self.metadata['normalized'] == 'no'

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """Write a network to ``path``, with ``export.metadata``."""
        raise NotImplementedError

    def _load(self, precision: str) -> dict[str, str]:
        """Load the network; returns the metadata."""
        raise NotImplementedError

    def _compute(self, images: Tensor) -> list[Tensor]:
        """The outputs, followed by the channels that each selector selected, shape (N, k)."""
        raise NotImplementedError

    def __call__(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the network.

        Args:
            images (Tensor): Shape (N, 3, H, W), of the dtype in the metadata.

        Returns:
            tuple[dict[str, Tensor], dict[str, Tensor]]: The outputs by name, and the selected
            channels, int64, shape (N, k), by the name of the selector.

        Raises:
            UserError: If the images do not fit the file, or the runtime fails.
        """
        self.check(images)
        try:
            with torch.no_grad():
                tensors = self._compute(images.contiguous())
        except Exception as problem:  # each runtime has its own exceptions
            shape = 'x'.join(map(str, images.shape))
            raise UserError(
                f'{self.path} fails on images of shape {shape}: {cause(problem)[:300]}'
            ) from problem
        count = len(self.names)
        return (
            dict(zip(self.names, tensors[:count], strict=True)),
            dict(zip(self.selectors, tensors[count:], strict=False)),
        )

    def check(self, images: Tensor) -> None:
        """Raise a UserError for images of another shape or dtype.

        Some runtimes would return wrong values for them.
        """
        shape, dtype, multiple = (self.metadata[key] for key in ('shape', 'dtype', 'multiple'))
        given = 'x'.join(map(str, images.shape))
        fits = re.fullmatch(re.sub('|'.join(AXES.values()), r'\\d+', shape), given) and not any(
            size % int(multiple) for size in images.shape[2:]
        )
        if not fits or dtype_name(images) != dtype:
            sides = f' (height and width multiples of {multiple})' if multiple != '1' else ''
            raise UserError(
                f'{self.path} accepts images {shape}{sides} in {dtype}, not {given} in '
                f'{dtype_name(images)}; export it for these (export.py: --shape, --batch, '
                '--dynamic-shape, --with-preprocessing)'
            )

    @property
    def batch_size(self) -> int | None:
        """The only batch size it accepts; None if it accepts any."""
        size = self.metadata['shape'].split('x')[0]
        return int(size) if size.isdigit() else None

    def batches(self, images: Tensor) -> Sequence[Tensor]:
        """Split images into batches of its size; the last image is repeated to fill the last."""
        if self.batch_size is None:
            return [images]
        missing = -len(images) % self.batch_size
        images = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        return images.split(self.batch_size)


def dtype_name(images: Tensor) -> str:
    """The name of the dtype, such as 'float32'."""
    return str(images.dtype).removeprefix('torch.')


def require_packages(names: Iterable[str]) -> None:
    """Import packages.

    Raises:
        UserError: If one is missing or cannot be imported, with the remedy.
    """
    for name in names:
        try:
            import_module(name)
        except ImportError as problem:
            raise UserError(
                f'{cause(problem)}; install it: pip install {name} (tested versions: '
                'requirements/runtimes.txt)'
            ) from problem
        except AttributeError as problem:  # nncf uses types that torch has from 2.3
            raise UserError(
                f'{name} does not work with torch {torch.__version__}: {cause(problem)}; write '
                'the file with a newer torch, it also runs here'
            ) from problem
