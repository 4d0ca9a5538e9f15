"""tools/train_seeds.py: one config trained with several seeds, as appendix D and Table 11 do.

In the work dir stand ``seeds.py``, the config with all options, which every seed runs;
``seeds.json``, the results; and a folder ``seed-N`` for each seed, its work dir.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import timedelta
from numbers import Real
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from ..checkpoints import atomic_write, read_checkpoint, safe_loading
from ..errors import UserError
from . import preflight, train
from .arguments import parse, train_parser
from .config import LOADERS, load_config
from .errors import one_line_errors
from .programs import RunFailed, end_child_when_terminated, run_program
from .resuming import checkpoints, newest_readable
from .run import restart_on_cpu
from .seed_record import SeedRecord

console = Console(highlight=False)


def main(argv: list[str] | None = None) -> None:
    """Train and test each seed as the command line says; exit code 1 if one failed.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
    args = parse(seeds_parser(), argv)
    restart_on_cpu(args)
    end_child_when_terminated()
    with one_line_errors(args.debug), safe_loading(args.trust_checkpoint):
        cfg = resolve(args)
        work_dir = Path(cfg.work_dir).resolve()
        record = SeedRecord(work_dir / 'seeds.json', args.config)
        check_begun(work_dir, record, args)
        freeze(cfg, work_dir / 'seeds.py')
        failures = run_all(cfg, work_dir, record, args)
    if record.columns():
        # As wide as it needs to be where the output goes into a file.
        Console(width=None if console.is_terminal else 200, highlight=False).print(record.table())
    console.print(f'written to {record.path}', soft_wrap=True)
    if failures:
        sys.exit(1)


def seeds_parser() -> argparse.ArgumentParser:
    """Options of tools/train_seeds.py: those of tools/train.py, and a few."""
    parser = train_parser()
    parser.description = 'Train a config with several seeds, test each, print mean and deviation.'
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        default=[0, 1, 2, 3, 4],
        metavar='SEED',
        help='values of randomness.seed; by default 0 1 2 3 4',
    )
    parser.add_argument('--gpus', type=int, metavar='N', help='train each seed on N GPUs')
    parser.add_argument('--tta', action='store_true', help='test with test-time augmentation')
    return parser


def resolve(args: argparse.Namespace) -> Config:
    """The config with all options applied, after every check that can be made before a run."""
    if args.launcher != 'none':
        raise UserError('--launcher: give --gpus N, and each seed is started on N GPUs')
    if args.resume not in (None, 'auto'):
        raise UserError('--resume takes no checkpoint here: each seed goes on from its own')
    if not all(0 <= seed < 2**32 for seed in args.seeds):
        raise UserError(f'--seeds {args.seeds}: a seed is a number from 0 to 2**32 - 1')
    if args.gpus is not None and args.gpus < 1:
        raise UserError(f'--gpus {args.gpus}: at least 1')
    launcher = 'pytorch' if args.gpus else 'none'
    args = argparse.Namespace(**{**vars(args), 'resume': None, 'launcher': launcher})
    cfg = load_config(args)
    if cfg.get('test_dataloader') is None:
        raise UserError(f'config {args.config} has no test_dataloader, so no seed can be scored')
    train.apply_options(cfg, args)
    train.check(cfg, args)
    preflight.check_data(cfg, LOADERS)
    # Not settings of a run, but results with different ones do not compare.
    cfg.seeds_run_with = dict(gpus=args.gpus, tta=args.tta)
    return cfg


def check_begun(work_dir: Path, record: SeedRecord, args: argparse.Namespace) -> None:
    """Fail where a half-trained seed would be overwritten."""
    for seed in args.seeds:
        begun = 'checkpoint' not in record[seed] and checkpoints(work_dir / f'seed-{seed}')
        if begun and not args.resume:
            raise UserError(
                f'{work_dir}/seed-{seed} is half-trained: go on with --resume, or choose another '
                '--work-dir'
            )


def freeze(cfg: Config, path: Path) -> None:
    """Write the config that every seed runs; refuse to mix results of different ones."""
    cfg = Config({key: cfg[key] for key in cfg if key not in ('work_dir', 'launcher')})
    text = cfg.pretty_text
    begun = any(checkpoints(folder) for folder in path.parent.glob('seed-*'))
    if begun and path.exists() and path.read_text() != text:
        raise UserError(
            f'the seeds in {path.parent} were trained with other settings, see {path.name} there: '
            f'choose another --work-dir, or remove {path} if the difference does not matter'
        )
    with atomic_write(path) as partial:
        partial.write_text(text)


def run_all(cfg: Config, work_dir: Path, record: SeedRecord, args: argparse.Namespace) -> int:
    """Train and test, one after the other, the seeds that are not finished; count the failed."""
    seeds = sorted(dict.fromkeys(args.seeds), key=record.is_finished, reverse=True)
    failures = 0
    for i, seed in enumerate(seeds):
        if record.is_finished(seed):
            continue
        console.rule(f'seed {seed}: {i + 1} of {len(seeds)}, {time_left(record, len(seeds) - i)}')
        try:
            run_one(seed, cfg, work_dir, record, args)
        except (RunFailed, UserError) as problem:
            failures += 1
            record.update(seed, failure=str(problem))
            print(f'error: seed {seed} {problem}', file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            sys.exit(f'\ninterrupted in seed {seed}; the same command with --resume goes on')
    return failures


def time_left(record: SeedRecord, seeds: int) -> str:
    """An estimate for the seeds to come, from those that are done."""
    seconds = record.seconds_per_seed()
    if seconds is None:
        return 'time left is known after the first'
    return f'about {timedelta(seconds=round(seeds * seconds))} left'


def run_one(
    seed: int, cfg: Config, work_dir: Path, record: SeedRecord, args: argparse.Namespace
) -> None:
    """Train a seed unless it is trained, test it, and record the result."""
    config, folder, start = work_dir / 'seeds.py', work_dir / f'seed-{seed}', time.monotonic()
    options = ['--device', args.device]
    options += ['--debug'] * args.debug + ['--trust-checkpoint'] * args.trust_checkpoint
    in_one_go = not checkpoints(folder)
    if 'checkpoint' not in record[seed]:
        resume = newest_readable(checkpoints(folder))
        run_program(
            'train', args.gpus, config, '--work-dir', folder, *options,
            *(['--resume', resume] if resume else []), '--cfg-options', f'randomness.seed={seed}',
        )  # fmt: skip
        record.update(seed, checkpoint=choose_checkpoint(folder, cfg))
    scores = folder / 'test' / 'metrics.json'
    scores.unlink(missing_ok=True)
    run_program(
        'test', args.gpus, config, folder / record[seed]['checkpoint'], '--work-dir', scores.parent,
        '--out', scores, '--out-item', 'metrics', *options, *(['--tta'] * args.tta),
    )  # fmt: skip
    metrics = json.loads(scores.read_text())
    record.update(
        seed,
        metrics={name: value for name, value in metrics.items() if isinstance(value, Real)},
        seconds=round(time.monotonic() - start, 1) if in_one_go else None,
        failure=None,
    )


def choose_checkpoint(folder: Path, cfg: Config) -> str:
    """The name of the checkpoint to test: the best on validation if one is kept, else the last."""
    if not checkpoints(folder):
        raise RunFailed(f'left no checkpoint in {folder}')
    last = checkpoints(folder)[0]
    save_best = cfg.get('default_hooks', {}).get('checkpoint', {}).get('save_best')
    if not save_best or cfg.get('val_cfg') is None:
        return last.name
    # mmengine keeps a record of the best by each of several metrics; the first one counts.
    several = isinstance(save_best, (list, tuple)) and len(save_best) > 1
    key = f'best_ckpt_{save_best[0]}' if several else 'best_ckpt'
    best = read_checkpoint(last)['message_hub']['runtime_info'].get(key)
    if best is None:
        raise RunFailed(f'has no best checkpoint: {last} was never evaluated; see val_interval')
    return Path(best).name
