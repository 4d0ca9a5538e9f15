"""tools/deployment/quantize.py: an exported file becomes one that computes in int8."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..deploy.exported_file import ExportedFile
from ..deploy.formats import open_file
from ..deploy.parts import part_of, selectors
from ..deploy.quantization import INT8_FILES, KEY
from ..deploy.substitution import as_in_files, batches
from ..errors import UserError
from . import preflight
from .arguments import add_cfg_options
from .config import load_config, require_keys
from .errors import building_from, one_line_errors
from .export import atomic_write
from .labelled_data import LabelledData, choose_split
from .model import build_model

HELD_OUT = 50  # test images that both files are run on


def main(argv: list[str] | None = None) -> None:
    """Quantise as the command line says.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
    args = quantize_parser().parse_args(argv)
    with one_line_errors(args.debug, args.config):
        check_options(args)
        file = open_file(args.file)
        if KEY in file.metadata:
            raise UserError(f'{args.file} is in int8 already; give the file that export.py wrote')
        cfg = load_config(args)
        loaders = ('train_dataloader', 'test_dataloader')
        require_keys(cfg, args.config, 'quantising', *loaders)
        preflight.check_data(cfg, loaders)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = build_model(cfg, args.config)
            images = Images(cfg, 'train', args.samples, model, file)
            with atomic_write(args.out) as partial, building_from(f'{args.out} is not written'):
                INT8_FILES[args.file.suffix].quantize(args.file, images, file.metadata, partial)
            print(f'written: {args.out} ({describe(args)})')
            held_out = Images(cfg, 'test', HELD_OUT, model, file)
            print(compare(model, args, held_out))


def quantize_parser() -> argparse.ArgumentParser:
    """Options of tools/deployment/quantize.py."""
    parser = argparse.ArgumentParser(
        description='Write an exported file anew such that it computes in int8. The ranges of the '
        'values are measured on training images; the channel selectors stay in float.'
    )
    parser.add_argument('config', help='the config that it was exported with')
    parser.add_argument(
        'file', type=Path, help='what tools/deployment/export.py wrote: .onnx or .xml, in float32'
    )
    parser.add_argument('out', type=Path, help='the file to write, with the same ending')
    parser.add_argument(
        '--samples',
        type=int,
        default=300,
        metavar='N',
        help='training images, taken evenly from the data set; default 300',
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help="where the data set lies, in place of the config's data_root",
    )
    add_cfg_options(parser)
    parser.set_defaults(launcher='none', no_pin_memory=False, work_dir=None)
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Everything that can be known to go wrong before a file is read."""
    kind = INT8_FILES.get(args.file.suffix)
    if kind is None:
        raise UserError(
            f'{args.file}: only files for ONNX Runtime and OpenVINO become int8; export one with '
            f'the ending {" or ".join(INT8_FILES)}'
        )
    if args.out.suffix != args.file.suffix or args.out.resolve() == args.file.resolve():
        raise UserError(f'{args.out}: let OUT be another file that ends with {args.file.suffix}')
    if args.samples < 1:
        raise UserError(f'--samples {args.samples}: give a number above 0')
    kind.check_packages()


class Images:
    """Images of a data set, prepared for testing, in batches as a file takes them.

    They are read anew whenever they are gone through.

    Args:
        cfg (Config): It is not changed.
        split (str): 'train' or 'test'.
        samples (int): How many images, evenly from the whole data set.
        model (nn.Module): Whose data preprocessor normalises.
        file (ExportedFile): The file.
    """

    def __init__(
        self, cfg: Config, split: str, samples: int, model: nn.Module, file: ExportedFile
    ) -> None:
        self.model, self.file = model, file
        self.size = file.metadata['shape'].split('x')[0]
        cfg = deepcopy(cfg)
        choose_split(cfg, split)
        cfg.test_dataloader.batch_size = int(self.size) if self.size.isdigit() else 1
        data = LabelledData(cfg, cfg.filename)
        total = sum(map(len, data.datasets))
        positions = np.linspace(0, total - 1, min(samples, total)).round().astype(int)
        self.loader = data.loader(positions.tolist())

    def __len__(self) -> int:
        return len(self.loader)

    @torch.no_grad()
    def __iter__(self) -> Iterator[Tensor]:
        raw = self.file.metadata['normalized'] == 'no'
        for data in self.loader:
            images = self.model.data_preprocessor(data, training=False)['inputs']
            images = as_in_files(self.model, images) if raw else images
            for batch in batches(images, self.size):
                self.file.check(batch)
                yield batch.contiguous()


def describe(args: argparse.Namespace) -> str:
    """How much of the new file is in int8, and both sizes."""
    kind = INT8_FILES[args.out.suffix]
    layers = kind.layers(args.out).values()
    before, after = (
        sum(path.with_suffix(suffix).stat().st_size for suffix in kind.files) / 1e6
        for path in (args.file, args.out)
    )
    return (
        f'{sum(layers)} convolutions and matrix products in int8, {len(layers) - sum(layers)} in '
        f'float; {after:.2f} MB instead of {before:.2f} MB'
    )


def compare(model: nn.Module, args: argparse.Namespace, images: Images) -> str:
    """How far the new file is from the old one; whether that is too far, only the score says."""
    part = part_of(model, images.file.metadata['what'])
    old, new = (open_file(path, list(selectors(part))) for path in (args.file, args.out))
    differences: dict[str, float] = {}
    same, shared, count = [], [], 0
    for batch in images:
        (expected, chosen), (found, others) = old(batch), new(batch)
        count += len(batch)
        for name, value in part.differences(expected, found).items():
            differences[name] = max(value, differences.get(name, 0))
        for name, channels in chosen.items():
            same.append((channels == others[name]).all(1))
            shared.append((channels[:, :, None] == others[name][:, None]).any(2).flatten())
    text = ', '.join(f'{name} {value:.1e}' for name, value in differences.items())
    text = f'{count} test images: differences from float, of the largest value: {text}'
    if not same:
        return text
    order, channels = (torch.cat(each).float().mean().item() for each in (same, shared))
    return f'{text}; selections: {order:.1%} the same, {channels:.1%} of the channels'
