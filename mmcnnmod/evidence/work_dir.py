"""What a training leaves in its work dir: the learning curve, and how long it waited for data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from ..engine.run_facts_hook import FACTS_FILE
from ..errors import UserError


def read_work_dir(folder: Path, metric: str) -> dict:
    """What is to be recorded of a finished training.

    Args:
        folder (Path): Its work dir, after one start or several.
        metric (str): What the evaluation calls the score.

    Returns:
        dict: 'score', the last of 'curve'; 'curve', pairs of step (epoch or iteration) and score;
        'data_share', the part of the time that training waited for data, None if no step was
        logged; and what :class:`mmcnnmod.engine.RunFactsHook` wrote.

    Raises:
        UserError: If there is no score.
    """
    lines = list(scalars(folder))
    # After a resumption steps are repeated; the later ones count.
    scores = {line['step']: line[metric] for line in lines if metric in line}
    if not scores:
        raise UserError(f'there is no {metric} in {folder}; is it what the evaluation calls it?')
    times = [line for line in lines if 'loss' in line and line.get('time')]
    seconds = sum(line['time'] for line in times)
    waiting = round(sum(line['data_time'] for line in times) / seconds, 4) if seconds else None
    facts = json.loads((folder / FACTS_FILE).read_text())
    curve = [[step, round(scores[step], 4)] for step in sorted(scores)]
    return dict(score=curve[-1][1], curve=curve, data_share=waiting, **facts)


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
