"""tools/model_converters/publish_model.py: prepare a trained checkpoint for publication."""

from __future__ import annotations

import argparse
import re

from ..checkpoints import read_checkpoint
from ..checkpoints.publishing import published, read_metrics, write_with_hash
from ..toolboxes import MINIMUM_VERSIONS
from .arguments import add_shared
from .errors import one_line_errors
from .machine import versions


def main(argv: list[str] | None = None) -> None:
    """Publish a checkpoint; ``argv`` defaults to the command line."""
    args = publish_parser().parse_args(argv)
    with one_line_errors(args.debug):
        metrics = read_metrics(args.metrics) if args.metrics else None
        content = read_checkpoint(args.checkpoint, trusted=args.trust_checkpoint)
        config = str((content.get('meta') or {}).get('cfg', ''))
        content = published(content, package_versions(config), metrics, not args.no_ema)
        path = write_with_hash(content, args.out)
        report(content['meta'])
        print(path)


def publish_parser() -> argparse.ArgumentParser:
    """The parser of tools/model_converters/publish_model.py."""
    parser = argparse.ArgumentParser(
        description='Reduce a checkpoint to its weights and a record of their origin, and add the '
        'start of its SHA-256 to its name.'
    )
    parser.add_argument('checkpoint', help='checkpoint of a training')
    parser.add_argument('out', help='NAME.pth or NAME.safetensors; written as NAME-HASH.pth')
    parser.add_argument(
        '--metrics',
        metavar='FILE',
        help='JSON file with the scores, which tools/test.py writes in its work dir; by default '
        'those in the checkpoint, if it was saved as the best one',
    )
    parser.add_argument(
        '--no-ema',
        action='store_true',
        help='publish the weights themselves, even if EMAHook kept their moving average',
    )
    add_shared(parser, '--trust-checkpoint', '--debug')
    return parser


def package_versions(config: str) -> dict[str, str]:
    """The installed versions of the packages that the config needs."""
    installed = versions()
    names = ['mmcnnmod', 'torch', 'mmcv', 'mmengine', default_scope(config)]
    return {name: installed.get(name, 'not installed') for name in names if name}


def default_scope(config: str) -> str | None:
    """The toolbox in a config's text, which is not run, because it could contain any code."""
    named = re.search(r'^default_scope = [\'"](\w+)[\'"]$', config, re.MULTILINE)
    return named[1] if named and named[1] in MINIMUM_VERSIONS else None


def report(meta: dict) -> None:
    """Print the record that is saved with the weights, and what is missing in it."""
    epoch, iteration = (meta.get(name, 'unknown') for name in ('epoch', 'iter'))
    which = 'the moving average' if meta['average_of_weights'] else 'the weights themselves'
    print(f'epoch {epoch}, iteration {iteration}, {which}')
    print(', '.join(f'{name} {version}' for name, version in meta['versions'].items()))
    if not meta.get('cfg'):
        print('config: none in the checkpoint')
    if meta['metrics']:
        print(', '.join(f'{name} {value:.5g}' for name, value in meta['metrics'].items()))
    else:
        print('metrics: none, because it was saved before its test; add them with --metrics FILE')
