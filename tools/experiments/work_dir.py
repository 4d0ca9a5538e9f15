"""Reads a work dir: checkpoints, the learning curve and runtime stats."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from plan import Plan
from subprocess_runner import RunFailed

from mmcnnmod.analysis.files import read_json
from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.cli.resuming import checkpoints, step_of
from mmcnnmod.engine.runtime_stats_hook import SECONDS, STATS_FILE
from mmcnnmod.errors import UserError


def last_step(cfg: Config) -> int | None:
    """The epoch or iteration after which training ends."""
    return cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters')


def is_trained(folder: Path, newest: Path | None, cfg: Config) -> bool:
    """Whether a training is finished, given its newest complete checkpoint."""
    at_last_step = newest is not None and step_of(newest) == last_step(cfg)
    return at_last_step and (folder / STATS_FILE).exists()


def is_within_epoch(checkpoint: Path, cfg: Config) -> bool:
    """Whether a checkpoint of an epoch-based training is from the middle of an epoch."""
    return 'max_epochs' in cfg.train_cfg and checkpoint.name.startswith('iter_')


def evaluated_checkpoints(folder: Path, plan: Plan, cfg: Config) -> list[Path]:
    """The checkpoints to resume from, newest first: those with all evaluations that were due.

    A checkpoint is written before the evaluation after the same step, which mmengine would not
    repeat when it resumes. A checkpoint in the middle of an epoch, which SIGTERM leaves, needs no
    evaluation.
    """
    scores, interval = read_curve(folder, plan.metric), cfg.train_cfg.get('val_interval', 1)
    # With a test, a config may have no evaluations, or evaluate at other steps.
    if plan.test and (not scores or 'dynamic_intervals' in cfg.train_cfg):
        return checkpoints(folder)
    return [
        path
        for path in checkpoints(folder)
        if is_within_epoch(path, cfg)
        or (step := step_of(path)) in scores
        or step < cfg.train_cfg.get('val_begin', 1)
        or (step % interval and step != last_step(cfg))
    ]


def choose_checkpoint(folder: Path, cfg: Config) -> str:
    """The name of the checkpoint to test: the best on validation if there is one, or the last."""
    if not checkpoints(folder):
        raise RunFailed(f'left no checkpoint in {folder}')
    last = checkpoints(folder)[0]
    save_best = (cfg.get('default_hooks', {}).get('checkpoint') or {}).get('save_best')
    if not save_best or cfg.get('val_cfg') is None:
        return last.name
    # With several metrics, mmengine keeps a best checkpoint for each; test that of the first.
    several = isinstance(save_best, (list, tuple)) and len(save_best) > 1
    key = f'best_ckpt_{save_best[0]}' if several else 'best_ckpt'
    best = read_checkpoint(last)['message_hub']['runtime_info'].get(key)
    if best is None:
        raise RunFailed(f'has no best checkpoint: {last} was never evaluated; see val_interval')
    return Path(best).name


def read_work_dir(folder: Path, plan: Plan, last: int) -> dict:
    """The record of a finished training, whose last evaluation must be after step ``last``.

    Returns:
        dict: 'curve', pairs of step (epoch or iteration) and score; 'score', the last of these
        scores, unless the plan has a test; 'data_share', the share of time spent waiting for data,
        None if no step was logged; and the stats of :class:`mmcnnmod.engine.RuntimeStatsHook`.
    """
    scores = read_curve(folder, plan.metric)
    curve = [[step, round(scores[step], 4)] for step in sorted(scores)]
    if not plan.test and not curve:
        raise UserError(f'{folder} was never evaluated; see val_interval')
    if not plan.test and curve[-1][0] != last:
        raise UserError(
            f'{folder} was last evaluated at step {curve[-1][0]}, not at the end, {last}; remove '
            'the folder and train again'
        )
    losses = [line for line in read_scalars(folder) if 'loss' in line]
    if losses and not math.isfinite(losses[-1]['loss']):
        raise UserError(
            f'{folder}: the last loss is {losses[-1]["loss"]}; use a lower learning rate'
        )
    times = [line for line in losses if line.get('time')]
    seconds = sum(line['time'] for line in times)
    waiting = round(sum(line['data_time'] for line in times) / seconds, 4) if seconds else None
    stats = read_json(folder / STATS_FILE, {SECONDS: float, 'peak_memory_mb': float})
    score = {} if plan.test else {'score': curve[-1][1]}
    return {**score, 'curve': curve, 'data_share': waiting, **stats}


def read_curve(folder: Path, metric: str) -> dict[int, float]:
    """The scores that a training has logged so far, by epoch or iteration."""
    evaluations = [line for line in read_scalars(folder) if 'loss' not in line and 'step' in line]
    # A resumed training repeats steps; the later scores replace the earlier ones.
    scores = {line['step']: line[metric] for line in evaluations if metric in line}
    if evaluations and not scores:
        names = ', '.join(sorted(set(evaluations[0]) - {'step', 'time', 'data_time'}))
        raise UserError(
            f'{folder} has no score {metric}, but {names}; correct the metric of the plan, or '
            '--metric'
        )
    return scores


def read_scalars(folder: Path) -> Iterator[dict]:
    """The lines that mmengine has logged, without incomplete ones, over all resumptions."""
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue
