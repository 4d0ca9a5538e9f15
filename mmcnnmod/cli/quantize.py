"""tools/deployment/quantize.py: quantise an exported file to int8."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from ..deploy.exported_file import ExportedFile, require_packages
from ..deploy.formats import open_file
from ..deploy.parts import Part, part_of, selectors
from ..deploy.quantization import INT8_FILES, KEY
from ..errors import UserError
from ..files import atomic_write
from . import preflight
from .arguments import add_cfg_options, add_shared, config_parser
from .config import load_config, require_keys
from .errors import building_from, one_line_errors
from .labelled_data import LabelledData, choose_split
from .model import build_model

TEST_IMAGES = 50  # for the comparison


def main(argv: list[str] | None = None) -> None:
    """Quantise a file; ``argv`` defaults to the command line."""
    args = quantize_parser().parse_args(argv)
    with one_line_errors(args.debug, args.config):
        check_options(args)
        file = open_file(args.file)
        if KEY in file.metadata:
            raise UserError(f'{args.file} is already int8; use the file that export.py wrote')
        cfg = load_config(args)
        loaders = ('train_dataloader', 'test_dataloader')
        require_keys(cfg, args.config, 'quantising', *loaders)
        preflight.check_data(cfg, loaders)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            part = part_of(build_model(cfg, args.config), file.metadata['what'])
            images = Images(cfg, 'train', args.samples, part, file)
            kind = INT8_FILES[args.file.suffix]
            with atomic_write(args.out) as partial, building_from(f'{args.out} is not written'):
                kind.quantize(args.file, images, file.metadata, partial)
            layers = kind.layers(args.out).values()
            before, after = (megabytes(path, kind) for path in (args.file, args.out))
            print(
                f'written: {args.out} ({sum(layers)} convolutions and matrix products in int8, '
                f'{len(layers) - sum(layers)} in float; {after:.2f} MB instead of {before:.2f} MB)'
            )
            print(compare(args, part, Images(cfg, 'test', TEST_IMAGES, part, file)))


def quantize_parser() -> argparse.ArgumentParser:
    """The parser of tools/deployment/quantize.py."""
    parser = config_parser(
        'Quantise an exported file to int8. The ranges of the values are measured on training '
        'images; the channel selectors stay in float.',
        checkpoint=False,
    )
    parser.add_argument(
        'file',
        type=Path,
        help='float32 file that tools/deployment/export.py wrote with this config: .onnx or .xml',
    )
    parser.add_argument('out', type=Path, help='the file to write, with the same suffix')
    parser.add_argument(
        '--samples',
        type=int,
        default=300,
        metavar='N',
        help='number of training images, spread evenly over the data set; default 300',
    )
    add_shared(parser, '--data-root')
    add_cfg_options(parser)
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Raise the errors of the options that can be found without reading the file."""
    kind = INT8_FILES.get(args.file.suffix)
    if kind is None:
        raise UserError(
            f'{args.file}: int8 is for ONNX Runtime and OpenVINO only; export a file that ends '
            f'with {" or ".join(INT8_FILES)}'
        )
    if args.out.suffix != args.file.suffix or args.out.resolve() == args.file.resolve():
        raise UserError(f'{args.out}: OUT must be another file that ends with {args.file.suffix}')
    if args.samples < 1:
        raise UserError(f'--samples {args.samples}: use a number above 0')
    require_packages(kind.packages)


class Images:
    """Batches of a data set's images as inputs of a file; each iteration reads them again.

    Args:
        cfg (Config): The config. It is not changed.
        split (str): 'train' or 'test'.
        samples (int): The number of images, spread evenly over the data set.
        part (Part): The network in PyTorch, for its data preprocessor.
        file (ExportedFile): The file.
    """

    def __init__(
        self, cfg: Config, split: str, samples: int, part: Part, file: ExportedFile
    ) -> None:
        self.part, self.file = part, file
        cfg = deepcopy(cfg)
        choose_split(cfg, split)
        cfg.test_dataloader.batch_size = file.batch_size or 1
        data = LabelledData(cfg, cfg.filename)
        total = sum(map(len, data.datasets))
        positions = np.linspace(0, total - 1, min(samples, total)).round().astype(int)
        self.loader = data.loader(positions.tolist())

    def __len__(self) -> int:
        return len(self.loader)

    @torch.no_grad()
    def __iter__(self) -> Iterator[Tensor]:
        for data in self.loader:
            images = self.part.model.data_preprocessor(data, training=False)['inputs']
            images = self.part.denormalize(images) if self.file.raw else images
            for batch in self.file.batches(images):
                self.file.check(batch)
                yield batch.contiguous()


def megabytes(path: Path, kind: type[ExportedFile]) -> float:
    """The size of a network's file or files."""
    suffixes = filter(None, (kind.suffix, kind.weights_suffix))
    return sum(path.with_suffix(suffix).stat().st_size for suffix in suffixes) / 1e6


def compare(args: argparse.Namespace, part: Part, images: Images) -> str:
    """Describe the differences between the two files.

    Only a score shows whether they are too large, see tools/deployment/test.py.
    """
    names = list(selectors(part))
    float_file, int8_file = (open_file(path, names) for path in (args.file, args.out))
    differences: dict[str, float] = {}
    same, shared, count = [], [], 0
    for batch in images:
        expected, float_channels = float_file(batch)
        found, int8_channels = int8_file(batch)
        count += len(batch)
        for name, value in part.differences(expected, found).items():
            differences[name] = max(value, differences.get(name, 0))
        for name, channels in float_channels.items():
            same.append((channels == int8_channels[name]).all(1))
            in_both = channels[:, :, None] == int8_channels[name][:, None]
            shared.append(in_both.any(2).flatten())
    text = ', '.join(f'{name} {value:.1e}' for name, value in differences.items())
    text = f'{count} test images: differences from float, of the largest value: {text}'
    if not same:
        return text
    same_share, shared_share = (torch.cat(each).float().mean().item() for each in (same, shared))
    return f'{text}; selections: {same_share:.1%} the same, {shared_share:.1%} of the channels'
