#!/usr/bin/env python3
"""Generate a data set of drawn images, for tests and demos.

    python tools/dataset_tools/generate_data.py cityscapes data/cityscapes --train 200 --val 50

The same arguments give the same files, byte for byte (with the same OpenCV, Pillow and NumPy).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from pathlib import Path

import cv2
from synthetic import cityscapes, imagenet, voc
from synthetic.output import OutputError, is_complete, output_folder

VERSION = 2  # increase it when the images change, so that older data sets are not reused
KINDS = {  # module, help text, images for training and validation, default size
    'cityscapes': (cityscapes, 'street scenes with the classes of Cityscapes', 200, 50, '512x256'),
    'voc': (voc, 'objects of the VOC classes, as VOC2007 and VOC2012', 200, 50, 'about 500x375'),
    'imagenet': (
        imagenet,
        'one object per image, in class folders',
        1000,
        200,
        'about 300x280',
    ),
}


class Parser(argparse.ArgumentParser):
    """A parser that prints errors without the usage."""

    def error(self, message: str):
        """Print the error and exit with code 2."""
        self.exit(2, f'error: {message}\n')


def integer(text: str, minimum: int = 1) -> int:
    """Parse an integer of at least ``minimum``."""
    if text.isdecimal() and int(text) >= minimum:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not an integer of at least {minimum}")


def image_size(text: str) -> tuple[int, int]:
    """Parse a size like 512x256."""
    with contextlib.suppress(ValueError):
        width, height = (int(value) for value in text.lower().split('x'))
        if 64 <= width <= 8192 and 32 <= height <= 8192:
            return width, height
    raise argparse.ArgumentTypeError(f"'{text}' is not a size like 512x256 (64x32 to 8192x8192)")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read and check the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='{' + ','.join(KINDS) + '}')
    natural = functools.partial(integer, minimum=0)
    for kind, (_, text, train, val, size) in KINDS.items():
        sub = kinds.add_parser(kind, help=text, description=text)
        sub.add_argument('dest', type=Path, metavar='DEST', help='folder of the data set')
        for name, count in (('train', train), ('val', val)):
            text = f'{name} images{" per year" * (kind == "voc")} (default {count})'
            sub.add_argument(f'--{name}', type=integer, default=count, metavar='N', help=text)
        text = f'size of the images (default {size})'
        sub.add_argument('--size', type=image_size, metavar='WxH', help=text)
        sub.add_argument('--seed', type=natural, default=0, metavar='S', help='default 0')
        sub.add_argument('--overwrite', action='store_true', help='replace the contents of DEST')
        if kind == 'imagenet':
            text = f'number of classes (default 10, at most {imagenet.MAX_CLASSES})'
            sub.add_argument('--classes', type=integer, default=10, metavar='N', help=text)
    args = parser.parse_args(argv)
    if args.kind == 'imagenet':
        if args.classes > imagenet.MAX_CLASSES:
            parser.error(f'argument --classes: at most {imagenet.MAX_CLASSES} are possible')
        for name in ('train', 'val'):
            if getattr(args, name) < args.classes:
                message = f'{args.classes} classes need at least as many images'
                parser.error(f'argument --{name}: {message}')
    return args


def generate(args: argparse.Namespace) -> None:
    """Generate the data set, unless it already exists."""
    counts = {'train': args.train, 'val': args.val}
    if args.kind == 'voc':
        counts['test'] = args.val
    more = {'classes': args.classes} if args.kind == 'imagenet' else {}
    record = {  # equal records mean equal data sets
        'tool': 'mmcnnmod generate_data',
        'version': VERSION,
        'arguments': {'kind': args.kind, 'size': args.size and list(args.size), **more},
        'seed': args.seed,
        'counts': counts,
    }
    if not args.overwrite and is_complete(args.dest, record):
        print(f"already exists: '{args.dest}'")
        return
    with output_folder(args.dest, record, args.overwrite) as folder:
        KINDS[args.kind][0].generate(folder, counts, args.size, args.seed, **more)
    print(f"done: '{args.dest}'")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parse_args(argv)
    cv2.setNumThreads(1)  # threads do not speed up such small drawings
    try:
        generate(args)
    except OutputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('error: interrupted, nothing was written', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
