"""tools/deployment/test.py: evaluate an exported file with the test of its config."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmengine.runner import Runner

from ..deploy.exported_file import ExportedFile
from ..deploy.formats import open_file
from ..deploy.substitution import substituted
from ..errors import UserError
from ..files import atomic_write, check_out
from . import preflight
from .arguments import add_common, config_parser, parse
from .config import fit_to_devices, load_config, require_keys
from .run import build_runner, run_safely
from .test import NEEDED, rename_config


def main(argv: list[str] | None = None) -> None:
    """Evaluate a file; ``argv`` defaults to the command line."""
    run_safely(test_exported, parse(test_exported_parser(), argv))


def test_exported(args: argparse.Namespace) -> None:
    """Read the config, check it, test the file, and print the scores."""
    file = open_file(args.file)
    check_out(args.out)
    checkpoint = find_checkpoint(args.checkpoint, file.metadata)
    cfg = rename_config(load_config(args))
    require_keys(cfg, args.config, 'testing', *NEEDED)
    cfg.load_from = checkpoint
    note = fit_to_devices(cfg)
    preflight.check(cfg, args.device, ('test_dataloader',))
    runner = build_runner(cfg, args.config, 'test_loop', note=note)
    scores = {}
    if checkpoint:
        runner.register_hook(preflight.CheckpointHook(checkpoint, complete=True))
        scores[f'PyTorch, {checkpoint}'] = runner.test()
    scores |= score_file(runner, file)
    for name, values in scores.items():
        print(f'{name}: ' + ', '.join(f'{key} {value:.4g}' for key, value in values.items()))
    if args.out:
        with atomic_write(args.out) as partial:
            partial.write_text(json.dumps(scores, indent=1, default=float) + '\n', 'utf-8')


def test_exported_parser() -> argparse.ArgumentParser:
    """The parser of tools/deployment/test.py."""
    parser = config_parser(
        "Evaluate an exported file, and the network in PyTorch, with the config's test.",
        checkpoint=False,
    )
    parser.add_argument(
        'file', type=Path, help='file that tools/deployment/export.py wrote with this config'
    )
    parser.add_argument(
        '--checkpoint',
        help='checkpoint of the network in PyTorch; default: the one named in the file',
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='save the scores as JSON')
    add_common(parser)
    return parser


def find_checkpoint(given: str | None, metadata: dict[str, str]) -> str | None:
    """The checkpoint for PyTorch's score and for the weights that the file does not contain.

    Raises:
        UserError: If there is none and the file contains only a backbone.
    """
    named = metadata['checkpoint']
    if given and Path(given).is_dir():
        raise UserError(f'--checkpoint {given} is a folder; name a file')
    if given or Path(named).is_file():
        return given or named
    if metadata['what'] == 'backbone':
        raise UserError(
            f'the file contains only the backbone, and its checkpoint {named} does not exist; use '
            '--checkpoint FILE for the heads'
        )
    print(f'{named} does not exist: no score of PyTorch (see --checkpoint)')
    return None


def score_file(runner: Runner, file: ExportedFile) -> dict[str, dict[str, float]]:
    """The scores of a file; for OpenVINO in float32 and in its default precision."""
    opened = [open_file(file.path, precision=name) for name in file.precisions[1:]]
    files = {each.precision: each for each in (file, *opened)}  # the default may be f32, too
    scores = {}
    for precision, each in files.items():
        with substituted(runner.model.eval(), each):
            scores[f'{file.path}, {precision}'] = runner.test()
    return scores
