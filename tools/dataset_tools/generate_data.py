#!/usr/bin/env python3
"""Draw a data set for a machine that has none.

    python tools/dataset_tools/generate_data.py cityscapes data/cityscapes --train 200 --val 50

The same arguments give the same files, byte for byte (with the same OpenCV and NumPy).
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

import cv2
from synthetic import cityscapes, imagenet, voc
from synthetic.output import OutputError, is_made, whole_folder

TOOL = 'mmcnnmod generate_data'
VERSION = 1  # raise it when the drawings change, so that older sets are not taken for equal
SMALLEST, LARGEST = (64, 32), (8192, 8192)
KINDS = {  # what --help says, pictures for training and validation, default size
    'cityscapes': ('street scenes with the 19 classes of Cityscapes', 200, 50, '512x256'),
    'voc': ('objects of the 20 VOC classes, as VOC2007 and VOC2012', 200, 50, 'about 500x375'),
    'imagenet': ('one thing per picture, in folders by class', 1000, 200, 'about 300x280'),
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message: str):
        """Print the error and exit with code 2."""
        self.exit(2, f'error: {message}\n')


def at_least(least: int, text: str) -> int:
    """A whole number that is not below ``least``."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f'{value} is too small, it must be at least {least}')
    return value


def image_size(text: str) -> tuple[int, int]:
    """Width and height from a text like 512x256."""
    try:
        width, height = (int(value) for value in text.lower().split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size like 512x256") from None
    if not (SMALLEST[0] <= width <= LARGEST[0] and SMALLEST[1] <= height <= LARGEST[1]):
        smallest, largest = ('x'.join(map(str, size)) for size in (SMALLEST, LARGEST))
        raise argparse.ArgumentTypeError(f"'{text}' is not within {smallest} and {largest}")
    return width, height


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read and check the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='{' + ','.join(KINDS) + '}')
    positive, natural = functools.partial(at_least, 1), functools.partial(at_least, 0)
    for kind, (text, train, val, size) in KINDS.items():
        sub = kinds.add_parser(kind, help=text, description=text)
        sub.add_argument('dest', type=Path, metavar='DEST', help='folder of the set')
        each = ' per year' if kind == 'voc' else ''
        for name, count in (('train', train), ('val', val)):
            sub.add_argument(
                f'--{name}', type=positive, default=count, metavar='N',
                help=f'{name} pictures{each} (default {count})',
            )  # fmt: skip
        sub.add_argument(
            '--size', type=image_size, metavar='WxH', help=f'size of the pictures (default {size})'
        )
        sub.add_argument('--seed', type=natural, default=0, metavar='S', help='default 0')
        sub.add_argument('--overwrite', action='store_true', help='replace what is in DEST')
        if kind == 'imagenet':
            sub.add_argument(
                '--classes', type=positive, default=10, metavar='N',
                help=f'number of classes (default 10, at most {imagenet.MAX_CLASSES})',
            )  # fmt: skip
    args = parser.parse_args(argv)
    if args.kind == 'imagenet':
        check_classes(parser, args)
    return args


def check_classes(parser: Parser, args: argparse.Namespace) -> None:
    """Every class needs a drawing, and a picture in both splits."""
    if args.classes > imagenet.MAX_CLASSES:
        parser.error(f'argument --classes: at most {imagenet.MAX_CLASSES} are possible')
    for name in ('train', 'val'):
        if getattr(args, name) < args.classes:
            parser.error(
                f'argument --{name}: {args.classes} classes need at least as many pictures'
            )


def make_record(args: argparse.Namespace) -> dict:
    """What the set's generated.json says; equal records mean equal sets."""
    counts = {'train': args.train, 'val': args.val}
    arguments = {'kind': args.kind, 'size': args.size and list(args.size)}
    if args.kind == 'voc':
        counts['test'] = args.val
    if args.kind == 'imagenet':
        arguments['classes'] = args.classes
    return {
        'tool': TOOL,
        'version': VERSION,
        'arguments': arguments,
        'seed': args.seed,
        'counts': counts,
    }


def generate(args: argparse.Namespace) -> None:
    """Draw the set, or find that it is there."""
    record = make_record(args)
    if not args.overwrite and is_made(args.dest, record):
        print(f"already there: '{args.dest}'")
        return
    counts = {'train': args.train, 'val': args.val}
    with whole_folder(args.dest, record, args.overwrite) as folder:
        if args.kind == 'imagenet':
            imagenet.generate(folder, counts, args.size, args.seed, args.classes)
        else:
            module = {'cityscapes': cityscapes, 'voc': voc}[args.kind]
            module.generate(folder, counts, args.size, args.seed)
    print(f"done: '{args.dest}'")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parse_args(argv)
    cv2.setNumThreads(1)  # the drawings are small, threads would only wait for each other
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
