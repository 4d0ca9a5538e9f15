"""tools/deployment/export.py: export a trained network to another runtime."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import mmcv
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..analysis.counting import input_size
from ..checkpoints import safe_loading
from ..config_types import type_name
from ..deploy.exported_file import BATCH, HEIGHT, WIDTH, Export, ExportedFile, require_packages
from ..deploy.formats import FORMATS, format_of, open_file
from ..deploy.parity import HALF_TOLERANCE, TOLERANCE, Comparison, compare
from ..deploy.parts import Part, folded, part_of, selectors, statistics, stride_of, swaps_channels
from ..errors import UserError
from ..files import atomic_write
from ..version import __version__
from .arguments import add_cfg_options, config_parser
from .config import innermost_datasets, load_config
from .errors import building_from, one_line_errors
from .model import load_trained_model
from .visualize import dataset_meta, find_pictures

EXAMPLE_BATCH = 2  # for a dynamic batch size; the exporters may treat a size of 1 as a constant
TESTED_BATCHES = (1, 3)  # for a dynamic batch size
MAX_PICTURES = 12


def main(argv: list[str] | None = None) -> None:
    """Export a network; ``argv`` defaults to the command line."""
    args = export_parser().parse_args(argv)
    with one_line_errors(args.debug, args.config), safe_loading(args.trust_checkpoint):
        kind = FORMATS[args.format] if args.format else format_of(args.out)
        check_options(args, kind)
        pictures = find_pictures(args.images)[:MAX_PICTURES]
        cfg = load_config(args)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = load_trained_model(cfg, args)
            export, reference = prepare(model, cfg, args, kind)
        with atomic_write(args.out) as partial:
            with building_from(f'{args.out} cannot be exported'):
                kind.write(export, partial)
            names = selectors(reference) if kind.shows_selections else ()
            file = open_file(partial, list(names))
            file.path = args.out  # for errors
            check_parity(reference, export, file, pictures)
    print(f'written: {args.out} ({", ".join(export.part.names)})')


def export_parser() -> argparse.ArgumentParser:
    """The parser of tools/deployment/export.py."""
    parser = config_parser(
        'Export a trained network to another runtime. The file is kept only if its outputs are '
        'those of PyTorch.'
    )
    parser.add_argument('out', type=Path, help='the file to write: .onnx, .xml, .pt or .pt2')
    parser.add_argument(
        '--format',
        choices=list(FORMATS),
        help="default: by OUT's suffix; .pt2 is torch-export",
    )
    parser.add_argument(
        '--what',
        choices=['model', 'backbone'],
        default='model',
        help='model: scores, label map or boxes; backbone: feature maps, including the neck',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help="size of the images; default: that of the config's test images",
    )
    parser.add_argument('--batch', metavar='N', help='batch size: a number, or dynamic (default)')
    parser.add_argument('--dynamic-shape', action='store_true', help='accept images of any size')
    parser.add_argument(
        '--fp16',
        action='store_true',
        help='onnx: half precision except for the selectors; openvino: half-precision weights',
    )
    parser.add_argument(
        '--with-preprocessing',
        action='store_true',
        help='accept uint8 images; the file applies mean, deviation and channel order itself',
    )
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='PICTURE',
        help=f'image files or folders for the comparison, at most {MAX_PICTURES} images',
    )
    add_cfg_options(parser)
    parser.set_defaults(device='cpu')
    return parser


def check_options(args: argparse.Namespace, kind: type[ExportedFile]) -> None:
    """Raise the errors of the options that need no model."""
    if args.out.suffix != kind.suffix:
        raise UserError(f'--format {args.format}: OUT must end with {kind.suffix}, got {args.out}')
    if args.out.is_dir():
        raise UserError(f'{args.out} is a folder; name a file')
    if args.fp16 and not kind.supports_fp16:
        raise UserError(
            f'--fp16 works with onnx and openvino, not with {args.out.suffix}; for torch, call '
            '.half() on the loaded network'
        )
    if args.batch not in (None, 'dynamic') and not (args.batch.isdecimal() and int(args.batch)):
        raise UserError(f'--batch {args.batch}: use a number above 0, or dynamic')
    require_packages(kind.packages)


def prepare(
    model: nn.Module, cfg: Config, args: argparse.Namespace, kind: type[ExportedFile]
) -> tuple[Export, Part]:
    """The network to export, and the same network with unfolded norms for the comparison."""
    reference = part_of(model, args.what, args.with_preprocessing)
    if reference.one_image and not kind.supports_detectors:
        raise UserError(
            'torch.export cannot export a whole detector, because the number of boxes changes from '
            'image to image; use .onnx, .xml or .pt, or export its pyramid with --what backbone'
        )
    batch = args.batch or ('1' if reference.one_image else 'dynamic')
    if reference.one_image and batch != '1':
        raise UserError(
            f'--batch {batch}: the file of a whole detector accepts one image, because the number '
            'of boxes differs between images; remove --batch, or use --what backbone'
        )
    dynamic = (BATCH,) * (batch == 'dynamic') + (HEIGHT, WIDTH) * args.dynamic_shape
    count = EXAMPLE_BATCH if batch == 'dynamic' else int(batch)
    dtype = torch.uint8 if args.with_preprocessing else torch.float32
    stride = stride_of(model)
    images = torch.zeros(count, 3, *choose_size(args.shape, stride, model, cfg), dtype=dtype)
    notes = describe(model, cfg, args)
    return Export(folded(reference), images, dynamic, stride, notes, args.fp16), reference


def choose_size(
    shape: list[int] | None, stride: int, model: nn.Module, cfg: Config
) -> tuple[int, int]:
    """Height and width: ``--shape``, or the padded size of the config's test images."""
    preprocessor = model.data_preprocessor
    test_cfg = getattr(preprocessor, 'test_cfg', None) or {}  # mmsegmentation's
    divisor = test_cfg.get('size_divisor') or getattr(preprocessor, 'pad_size_divisor', 1)
    try:
        height, width = shape or [-(-side // divisor) * divisor for side in input_size(cfg)]
    except UserError as problem:
        raise UserError(f'{problem}; use --shape H W') from problem
    smallest = min(stride, 32)  # coarser maps of a pyramid are computed from those of stride 32
    if min(height, width) < smallest:
        raise UserError(
            f'--shape {height} {width} is too small: use at least the stride of the network, '
            f'{smallest}'
        )
    if height % divisor or width % divisor:
        raise UserError(
            f'--shape {height} {width}: the data preprocessor pads images to multiples of '
            f'{divisor}; use such a size'
        )
    return height, width


def describe(model: nn.Module, cfg: Config, args: argparse.Namespace) -> dict[str, str]:
    """The metadata of the file."""
    meta = dataset_meta(cfg, model)
    order = image_order(cfg)
    if swaps_channels(model) and not args.with_preprocessing:
        order = order[::-1]
    mean, std = (
        # 7 digits, as float32 has.
        [] if each is None else [float(f'{value:.7g}') for value in each.flatten().tolist()]
        for each in statistics(model)
    )
    return {
        'mmcnnmod': __version__,
        'config': Path(args.config).name,
        'checkpoint': args.checkpoint,
        'what': args.what,
        'channels': order,
        'normalized': 'no' if args.with_preprocessing else 'yes',
        'mean': json.dumps(mean),
        'std': json.dumps(std),
        'classes': json.dumps(list(meta.get('classes') or ())),
        'palette': json.dumps([list(color) for color in meta.get('palette') or ()]),
    }


def image_order(cfg: Config) -> str:
    """The channel order before the data preprocessor; OpenCV reads image files as BGR."""
    dataset = next(innermost_datasets(cfg.get('test_dataloader')), {})
    steps = [type_name(step) or '' for step in dataset.get('pipeline', [])]
    return 'BGR' if not steps or any('LoadImage' in step for step in steps) else 'RGB'


def check_parity(reference: Part, export: Export, file: ExportedFile, pictures: list[Path]) -> None:
    """Compare a file with PyTorch and print the differences.

    Raises:
        UserError: If they are too large, or a detector finds no boxes to compare.
    """
    out, tolerance = file.path, HALF_TOLERANCE if export.fp16 else TOLERANCE
    results: dict[str, Comparison] = {}
    print(f'{out}: {file.metadata["exporter"]}; differences from PyTorch, of the largest value:')
    for source, images in samples(export, pictures, int(file.metadata['multiple'])):
        normalized = preprocessed(reference.model, images)
        given = images if reference.raw else normalized
        result = compare(reference, normalized, file, given, tolerance)
        key = f'{"x".join(map(str, images.shape))}, {source}'
        results[key] = results[key] + result if key in results else result
    for key, result in results.items():
        print(f'  {key}: {result}')
    if not all(result.agrees for result in results.values()):
        raise UserError(
            f'{out} is not written: the file and PyTorch differ by more than {tolerance:g} of the '
            'largest value, or select other channels (see above)'
        )
    if not any(result.differences for result in results.values()):
        raise UserError(
            f'{out} is not written: there are no boxes to compare; use --images with pictures that '
            'contain objects'
        )


def samples(export: Export, pictures: list[Path], multiple: int) -> Iterator[tuple[str, Tensor]]:
    """Sources ('random' or 'real') and uint8 images for the comparison, in all tested shapes."""
    batch, _, *size = export.images.shape
    sizes = [tuple(size)]
    if HEIGHT in export.dynamic:
        if multiple > 1:  # the smallest size of torch.export is two strides
            size = [max(2, -(-side // multiple)) * multiple for side in size]
        sizes = [tuple(size), (size[0] + export.stride, size[1] + 2 * export.stride)]
    counts = TESTED_BATCHES if BATCH in export.dynamic else (batch,)
    generator = torch.Generator().manual_seed(0)
    for height, width in sizes:
        for count in counts:
            noise = torch.randint(0, 256, (count, 3, height, width), generator=generator)
            yield 'random', noise.to(torch.uint8)
        loaded = [load_picture(file, height, width) for file in pictures]
        for count in counts if loaded else ():
            # The first pictures fill up the last batch.
            full = list(islice(cycle(loaded), -(-len(loaded) // count) * count))
            for images in torch.stack(full).split(count):
                yield 'real', images


def load_picture(path: Path, height: int, width: int) -> Tensor:
    """A resized picture: uint8, shape (3, H, W), BGR."""
    image = mmcv.imread(str(path))
    if image is None:
        raise UserError(f'{path} cannot be read as a picture; replace or remove it')
    image = mmcv.imresize(image, (width, height))
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


@torch.no_grad()
def preprocessed(model: nn.Module, images: Tensor) -> Tensor:
    """Images after the toolbox's data preprocessor."""
    data = dict(inputs=list(images), data_samples=[BaseDataElement() for _ in images])
    return model.data_preprocessor(data, training=False)['inputs']
