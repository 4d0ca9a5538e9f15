"""What the formats have in common: a file is written from a part of a model, and run."""

from __future__ import annotations

from collections.abc import Sequence
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
    """A part of a model, and for which images it is written.

    Attributes:
        part (Part): In eval mode, on the CPU.
        images (Tensor): An example, shape (N, 3, H, W), float32 or uint8.
        dynamic (tuple[int, ...]): Axes of the images that may have another size later.
        stride (int): The network's; where a format needs it, other heights and widths have to be
            multiples of it.
        notes (dict[str, str]): Written into the file, with what a reader needs to run it.
        fp16 (bool): ONNX: whether weights and computation are in half precision but for images,
            outputs and selectors; OpenVINO: whether the weights are stored so. Defaults to False.
    """

    part: Part
    images: Tensor
    dynamic: tuple[int, ...]
    stride: int
    notes: dict[str, str]
    fp16: bool = False

    def metadata(self, exporter: str, multiple: int = 1) -> dict[str, str]:
        """What is written into the file.

        Args:
            exporter (str): What of torch writes it.
            multiple (int): Of what heights and widths have to be multiples. Defaults to 1.

        Returns:
            dict[str, str]: All texts, as the formats want it.
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
            'dtype': str(self.images.dtype).removeprefix('torch.'),
            'multiple': str(multiple if HEIGHT in self.dynamic else 1),
        }


class ExportedFile:
    """A network in a file, ready to run on the CPU.

    Args:
        path (Path): The file.
        selectors (Sequence[str]): Names of channel selectors whose choices are to be seen; one
            that leads to no output is not in the file. Defaults to none.
        precision (str): 'f32', or 'default' for what the runtime takes by itself; only OpenVINO
            knows the difference. Defaults to 'f32'.

    Attributes:
        metadata (dict[str, str]): What was written into it.
        names (list[str]): Of the outputs.
        precision (str): In which it computes, such as 'f32' or 'bf16'.
        shows_selections (bool): Whether its runtime lets the selectors' choices be seen.
    """

    suffix = ''
    packages: tuple[str, ...] = ()
    takes_fp16 = False
    takes_detectors = True  # whole ones, whose outputs are as long as there are boxes
    shows_selections = True
    precisions = ('f32',)  # in which it may be opened

    def __init__(self, path: Path, selectors: Sequence[str] = (), precision: str = 'f32') -> None:
        self.path = path
        self.selectors = list(selectors)
        self.metadata: dict[str, str] = {}
        self.precision = 'f32'
        self.open(precision)
        self.names = self.metadata['outputs'].split(',')

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """Write a file, and those that belong to it."""
        raise NotImplementedError

    def open(self, precision: str) -> None:
        """Load the file and its metadata."""
        raise NotImplementedError

    def compute(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs, and the channels that each selector chose, shape (N, k)."""
        raise NotImplementedError

    def __call__(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run it.

        Args:
            images (Tensor): Shape (N, 3, H, W), float32, or uint8 if it was written so.

        Returns:
            tuple[dict[str, Tensor], dict[str, Tensor]]: Outputs by their names, and chosen
            channels, int64, shape (N, k), by the names of the selectors.

        Raises:
            UserError: If the runtime does not take the images.
        """
        self.check(images)
        try:
            with torch.no_grad():
                outputs, chosen = self.compute(images.contiguous())
        except Exception as problem:  # each runtime has its own kinds
            shape = 'x'.join(map(str, images.shape))
            raise UserError(
                f'{self.path} fails on images of shape {shape}: {cause(problem)[:300]}'
            ) from problem
        return (
            dict(zip(self.names, outputs, strict=True)),
            dict(zip(self.selectors, chosen, strict=False)),
        )

    def check(self, images: Tensor) -> None:
        """Fail for images that it is not for; not every runtime does, some give other numbers."""
        shape, dtype, multiple = (self.metadata[key] for key in ('shape', 'dtype', 'multiple'))
        sizes = shape.split('x')
        fits = len(sizes) == images.dim() and all(
            str(size) == expected or expected in AXES.values()
            for size, expected in zip(images.shape, sizes, strict=True)
        )
        fits = fits and all(size % int(multiple) == 0 for size in images.shape[2:])
        if not fits or str(images.dtype) != f'torch.{dtype}':
            given = 'x'.join(map(str, images.shape))
            of = f' (height and width multiples of {multiple})' if multiple != '1' else ''
            raise UserError(
                f'{self.path} takes images {shape}{of} in {dtype}, not {given} in '
                f'{str(images.dtype).removeprefix("torch.")}; export it for these (export.py: '
                '--shape, --batch, --dynamic-shape, --with-preprocessing)'
            )

    @classmethod
    def check_packages(cls) -> None:
        """Fail if a package that it needs is not there."""
        for name in cls.packages:
            try:
                import_module(name)
            except ImportError as problem:
                raise UserError(
                    f'{cause(problem)}; install it: pip install {name} (tested versions: '
                    'requirements/runtimes.txt)'
                ) from problem
