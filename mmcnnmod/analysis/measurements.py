"""Measured speed and accuracy in JSON files.

Speed, as `tools/analysis_tools/benchmark.py --json` writes it, possibly with more fields::

    {"machine": "2 cores, Debian 12", "date": "2026-11-21", "versions": {"torch": "2.11.0"},
     "results": [{"config": "resnet50_in1k", "device": "cpu", "runtime": "eager",
                  "batch_size": 1, "dtype": "float32", "memory_format": "contiguous",
                  "what": "inference", "median_ms": 37.1}]}

"memory_format" and "what" are optional; these are their defaults. :func:`read_speed` ignores
results of training steps and skip bounds.

Accuracy of your own runs::

    {"results": [{"config": "resnet50_in1k", "top1": 76.1}]}

or a file of tools/experiments/run.py, of which the mean over the runs of each arm is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from ..errors import UserError
from .files import check_fields, read_json
from .paper import PAPER_DEVICES

INFERENCE = 'inference'
CONTIGUOUS = 'contiguous'
SPEED_FIELDS = {'machine': str, 'date': str, 'versions': dict, 'results': list}
RESULT_FIELDS = dict(
    config=str, device=str, runtime=str, batch_size=int, dtype=str, median_ms=float
)


class Setting(NamedTuple):
    """How speed was measured. Times can be compared within one setting only.

    Attributes:
        device (str): 'cpu' or 'cuda'.
        runtime (str): Such as 'eager'.
        batch_size (int): Images at a time.
        dtype (str): Such as 'float32'.
        memory_format (str): 'contiguous' or 'channels_last'. Defaults to 'contiguous'.
        what (str): 'inference' or 'training'. Defaults to 'inference'.
    """

    device: str
    runtime: str
    batch_size: int
    dtype: str
    memory_format: str = CONTIGUOUS
    what: str = INFERENCE

    @property
    def training(self) -> bool:
        """Whether training steps are measured."""
        return self.what != INFERENCE

    def __str__(self) -> str:
        layout = '' if self.memory_format == CONTIGUOUS else f', {self.memory_format}'
        return f'{self.device}, {self.runtime}, batch {self.batch_size}, {self.dtype}{layout}'


class Speed(NamedTuple):
    """The inference times of a benchmark, in milliseconds by setting and config."""

    machine: str
    date: str
    times: dict[Setting, dict[str, float]]


def read_speed(path: Path) -> Speed:
    """Read the inference times of a benchmark's JSON.

    Raises:
        UserError: If it does not have the format above.
    """
    content = read_json(path, SPEED_FIELDS)
    times: dict[Setting, dict[str, float]] = {}
    for i, result in enumerate(content['results']):
        where = f'{path}: results[{i}]'
        check_fields(where, result, RESULT_FIELDS)
        if result.get('what', INFERENCE) != INFERENCE:
            continue
        if result['device'] not in PAPER_DEVICES:
            raise UserError(
                f'{where}: device {result["device"]!r} is none of {", ".join(PAPER_DEVICES)}'
            )
        add_once(times.setdefault(setting_of(result), {}), result, 'median_ms', where)
    return Speed(content['machine'], content['date'], times)


def setting_of(result: Mapping) -> Setting:
    """The setting of a result."""
    return Setting(**{name: result[name] for name in Setting._fields if name in result})


def read_accuracies(paths: Sequence[Path]) -> dict[str, float]:
    """Read the top-1 accuracies of your own runs, in percent by config.

    Raises:
        UserError: If a file does not have the format above.
    """
    found: dict[str, float] = {}
    for path in paths:
        content = read_json(path, {})
        if 'runs' in content:
            results = means_of_runs(path, content)
        elif 'seeds' in content:
            results = [mean_of_seeds(path, content)]
        else:
            check_fields(str(path), content, {'results': list})
            results = content['results']
        for i, result in enumerate(results):
            where = f'{path}: results[{i}]'
            check_fields(where, result, {'config': str, 'top1': float})
            add_once(found, result, 'top1', where)
    return found


def means_of_runs(path: Path, content: dict) -> list[dict]:
    """The mean of each arm in a file of tools/experiments/run.py, with the arm as the config."""
    check_fields(str(path), content, {'metric': str, 'runs': list})
    if content['metric'] != 'accuracy/top1':
        raise UserError(f'{path} has scores of {content["metric"]}, not of accuracy/top1')
    scores: dict[str, list[float]] = {}
    for i, run in enumerate(content['runs']):
        check_fields(f'{path}: runs[{i}]', run, {'arm': str, 'score': float})
        scores.setdefault(run['arm'], []).append(run['score'])
    return [dict(config=arm, top1=mean(values)) for arm, values in scores.items()]


def mean_of_seeds(path: Path, content: dict) -> dict:
    """The result in a ``seeds.json`` of tools/train_seeds.py in version 0.1.0."""
    check_fields(str(path), content, {'config': str, 'mean': dict})
    check_fields(f'{path}: mean', content['mean'], {'accuracy/top1': float})
    return {'config': Path(content['config']).stem, 'top1': content['mean']['accuracy/top1']}


def add_once(found: dict[str, float], result: Mapping, name: str, where: str) -> None:
    """Add a result's number by its config; fails for impossible values and duplicates."""
    config, value = result['config'], result[name]
    if not (isfinite(value) and value > 0):
        raise UserError(f'{where}: {name!r} must be above 0, got {value}')
    if config in found:
        raise UserError(f'{where}: {config} occurs twice')
    found[config] = value
