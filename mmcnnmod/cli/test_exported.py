"""tools/deployment/test.py: evaluate an exported file with the test of its config."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmengine.runner import Runner

from ..checkpoints import safe_loading
from ..deploy.exported_file import ExportedFile
from ..deploy.formats import open_file
from ..deploy.substitution import substituted
from ..errors import UserError
from ..files import atomic_write
from . import preflight
from .arguments import add_common, parse
from .config import fit_to_devices, load_config, require_keys, say_once
from .errors import one_line_errors
from .run import build_runner, restart_on_cpu
from .test import NEEDED, under_another_name


def main(argv: list[str] | None = None) -> None:
    """Evaluate a file.

    Args:
        argv (list[str], optional): Command-line options. Defaults to None, those of the process.
    """
    args = parse(test_exported_parser(), argv)
    restart_on_cpu(args)
    with one_line_errors(args.debug, args.config), safe_loading(args.trust_checkpoint):
        file = open_file(args.file)
        if args.out and not args.out.parent.is_dir():
            raise UserError(f'--out {args.out}: create the folder {args.out.parent} first')
        checkpoint = find_checkpoint(args.checkpoint, file.metadata)
        cfg = load_config(args)
        require_keys(cfg, args.config, 'testing', *NEEDED)
        preflight.check_device(cfg, args.device)
        preflight.check_work_dir(cfg)
        preflight.check_data(cfg, ('test_dataloader',))
        cfg.load_from = checkpoint
        fit_to_devices(cfg, say_once)
        runner = build_runner(under_another_name(cfg), args.config, 'test_loop')
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
    """Options of tools/deployment/test.py."""
    parser = argparse.ArgumentParser(
        description="Evaluate an exported file, and the network in PyTorch, with the config's test."
    )
    parser.add_argument('config', help='the config that the file was exported with')
    parser.add_argument('file', type=Path, help='file from tools/deployment/export.py')
    parser.add_argument(
        '--checkpoint',
        help='checkpoint of the network in PyTorch; default: the one named in the file',
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='save the scores as JSON')
    add_common(parser)
    return parser


def find_checkpoint(given: str | None, metadata: dict[str, str]) -> str | None:
    """The checkpoint for PyTorch's score and the weights that the file does not contain.

    Raises:
        UserError: If it is needed and missing.
    """
    if given:
        preflight.check_file(given)
    elif Path(metadata['checkpoint']).is_file():
        given = metadata['checkpoint']
    if given:
        preflight.check_readable(given)
    elif metadata['what'] == 'backbone':
        raise UserError(
            f'the file contains only the backbone, and its checkpoint {metadata["checkpoint"]} '
            'does not exist; use --checkpoint FILE for the heads'
        )
    else:
        print(f'{metadata["checkpoint"]} does not exist: no score of PyTorch (see --checkpoint)')
    return given


def score_file(runner: Runner, file: ExportedFile) -> dict[str, dict[str, float]]:
    """The scores of a file; for OpenVINO in float32 and in its default precision."""
    others = [open_file(file.path, precision=each) for each in file.precisions[1:]]
    files = {each.precision: each for each in (file, *others)}  # the default may be f32
    scores = {}
    for precision, each in files.items():
        with substituted(runner.model.eval(), each):
            scores[f'{file.path}, {precision}'] = runner.test()
    return scores
