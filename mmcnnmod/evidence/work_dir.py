"""What a training leaves in its work dir: the learning curve, and how long it waited for data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from ..analysis.files import read_json
from ..engine.runtime_stats_hook import SECONDS, STATS_FILE
from ..errors import UserError


def read_work_dir(folder: Path, metric: str, last: int | None = None) -> dict:
    """What is to be recorded of a finished training.

    Args:
        folder (Path): Its work dir, after one start or several.
        metric (str): What the evaluation calls the score.
        last (int, optional): The step of the last evaluation. Defaults to None, whichever it is.

    Returns:
        dict: 'score', the last of 'curve'; 'curve', pairs of step (epoch or iteration) and score;
        'data_share', the part of the time that training waited for data, None if no step was
        logged; and what :class:`mmcnnmod.engine.RuntimeStatsHook` wrote.

    Raises:
        UserError: If there is no score, or none of the last step, or the loss was not finite.
    """
    scores = curve_of(folder, metric)
    if not scores:
        raise UserError(f'{folder} was never evaluated; see val_interval')
    curve = [[step, round(scores[step], 4)] for step in sorted(scores)]
    if last is not None and curve[-1][0] != last:
        raise UserError(
            f'{folder} was evaluated at step {curve[-1][0]} last, not at the end, {last}; remove '
            'the folder and train again'
        )
    losses = [line for line in scalars(folder) if 'loss' in line]
    if losses and not math.isfinite(losses[-1]['loss']):
        raise UserError(f'{folder}: the loss ended as {losses[-1]["loss"]}; is the rate too high?')
    times = [line for line in losses if line.get('time')]
    seconds = sum(line['time'] for line in times)
    waiting = round(sum(line['data_time'] for line in times) / seconds, 4) if seconds else None
    facts = read_json(folder / STATS_FILE, {SECONDS: float, 'peak_memory_mb': float})
    return dict(score=curve[-1][1], curve=curve, data_share=waiting, **facts)


def curve_of(folder: Path, metric: str) -> dict[int, float]:
    """The scores that a training has logged so far, by epoch or iteration.

    Raises:
        UserError: If it was evaluated, but has no such score.
    """
    evaluations = [line for line in scalars(folder) if 'loss' not in line and 'step' in line]
    # After a resumption steps are repeated; the later ones count.
    scores = {line['step']: line[metric] for line in evaluations if metric in line}
    if evaluations and not scores:
        names = sorted(set(evaluations[0]) - {'step', 'time', 'data_time'})
        raise UserError(f'{folder} has no score {metric}, but {", ".join(names)}; mend the plan')
    return scores


def scalars(folder: Path) -> Iterator[dict]:
    """The lines that mmengine logged, over all starts; the last may be cut off."""
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def mean_and_range(curves: list[list]) -> tuple[list, list[float], list[float], list[float]]:
    """Several seeds' curves as one: steps, mean, lowest and highest score at each.

    Args:
        curves (list[list]): Pairs of step and score; steps that not all curves have are left out.

    Returns:
        tuple: Four lists of the same length.
    """
    tables = [dict(curve) for curve in curves]
    steps = [step for step in tables[0] if all(step in table for table in tables)]
    columns = [[table[step] for table in tables] for step in steps]
    return steps, [mean(c) for c in columns], [min(c) for c in columns], [max(c) for c in columns]
