"""tools/model_converters/publish_model.py: make a trained checkpoint one to give away."""

from __future__ import annotations

import argparse
import re
from importlib import import_module

from ..checkpoints import read_checkpoint
from ..checkpoints.publishing import published, read_metrics, write_with_hash
from ..toolboxes import MINIMUM_VERSIONS
from ..version import __version__
from .arguments import add_reading
from .errors import one_line_errors


def main(argv: list[str] | None = None) -> None:
    """Publish as the command line says.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
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
    """Options of tools/model_converters/publish_model.py."""
    parser = argparse.ArgumentParser(
        description='Strip a checkpoint to its weights and a record of where they come from; the '
        'start of its SHA-256 goes into its name.'
    )
    parser.add_argument('checkpoint', help='checkpoint of a training')
    parser.add_argument('out', help='NAME.pth or NAME.safetensors; becomes NAME-HASH.pth')
    parser.add_argument(
        '--metrics',
        metavar='FILE',
        help='JSON file with the scores, as tools/test.py leaves it in its work dir; by default '
        'those in the checkpoint, which it has if it was saved as the best one',
    )
    parser.add_argument(
        '--no-ema',
        action='store_true',
        help='publish the weights themselves where EMAHook kept a moving average of them',
    )
    add_reading(parser)
    return parser


def package_versions(config: str) -> dict[str, str]:
    """The versions of the packages that are installed here, those that the config needs."""
    names = ['torch', 'mmcv', 'mmengine', default_scope(config)]
    versions = {'mmcnnmod': __version__}
    for name in filter(None, names):
        try:
            versions[name] = str(import_module(name).__version__)
        except ImportError:
            versions[name] = 'not installed'
    return versions


def default_scope(config: str) -> str | None:
    """The toolbox that a config's text names; it is not run, for it could be any code."""
    named = re.search(r'^default_scope = [\'"](\w+)[\'"]$', config, re.MULTILINE)
    return named[1] if named and named[1] in MINIMUM_VERSIONS else None


def report(meta: dict) -> None:
    """Print what goes along with the weights, and what is not known."""
    epoch, iteration = (meta.get(name, 'unknown') for name in ('epoch', 'iter'))
    which = 'the moving average' if meta['average_of_weights'] else 'the weights themselves'
    print(f'epoch {epoch}, iteration {iteration}, {which}')
    print(', '.join(f'{name} {version}' for name, version in meta['versions'].items()))
    if not meta.get('cfg'):
        print('config: none in the checkpoint')
    if meta['metrics']:
        print(', '.join(f'{name} {value:.5g}' for name, value in meta['metrics'].items()))
    else:
        print('metrics: none, for it was saved before it was scored; give them by --metrics FILE')
