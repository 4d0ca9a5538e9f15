"""Measured speed and accuracy, as JSON files hold them.

Speed (a benchmark writes it; more fields may stand beside these)::

    {"machine": "2 cores, Debian 12", "date": "2026-11-21", "versions": {"torch": "2.11.0"},
     "results": [{"config": "resnet50_in1k", "device": "cpu", "runtime": "eager",
                  "batch_size": 1, "dtype": "float32", "memory_format": "contiguous",
                  "median_ms": 37.1}]}

"memory_format" may be left out, it is "contiguous" then. A result is the inference of the config's
network as it is. One of anything else (a training step, the network without its MoD blocks) says
so in ``"what"`` and is passed over here.

Accuracy of one's own runs::

    {"results": [{"config": "resnet50_in1k", "top1": 76.1}]}

or a file of tools/experiments/run.py, of which the mean over the runs of each arm counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from ..errors import UserError
from .files import check_fields, read_json

INFERENCE = 'inference'
CONTIGUOUS = 'contiguous'
DEVICES = ('cpu', 'cuda')
SPEED_FIELDS = {'machine': str, 'date': str, 'versions': dict, 'results': list}
RESULT_FIELDS = {
    'config': str,
    'device': str,
    'runtime': str,
    'batch_size': int,
    'dtype': str,
    'median_ms': float,
}


class Setting(NamedTuple):
    """How speed was measured; times compare within one setting.

    Attributes:
        device (str): 'cpu' or 'cuda'.
        runtime (str): Such as 'eager'.
        batch_size (int): Images at a time.
        dtype (str): Such as 'float32'.
        memory_format (str): 'contiguous' or 'channels_last'. Defaults to 'contiguous'.
    """

    device: str
    runtime: str
    batch_size: int
    dtype: str
    memory_format: str = CONTIGUOUS

    def __str__(self) -> str:
        layout = '' if self.memory_format == CONTIGUOUS else f', {self.memory_format}'
        return f'{self.device}, {self.runtime}, batch {self.batch_size}, {self.dtype}{layout}'


@dataclass(frozen=True)
class Speed:
    """What a benchmark measured.

    Attributes:
        machine (str): On which machine.
        date (str): When.
        versions (dict[str, str]): Of which packages.
        times (dict[Setting, dict[str, float]]): Milliseconds by setting and config.
    """

    machine: str
    date: str
    versions: dict[str, str]
    times: dict[Setting, dict[str, float]]


def read_speed(path: Path) -> Speed:
    """Read a benchmark's JSON.

    Args:
        path (Path): The file.

    Returns:
        Speed: The inference times in it.

    Raises:
        UserError: If it is not as the head of this module says.
    """
    content = read_json(path, SPEED_FIELDS)
    times: dict[Setting, dict[str, float]] = {}
    for i, result in enumerate(content['results']):
        where = f'{path}: results[{i}]'
        check_fields(where, result, RESULT_FIELDS)
        if result.get('what', INFERENCE) != INFERENCE:
            continue
        if result['device'] not in DEVICES:
            raise UserError(f'{where}: device {result["device"]!r} is none of {", ".join(DEVICES)}')
        check_positive(where, 'median_ms', result['median_ms'])
        setting = setting_of(result)
        if result['config'] in times.setdefault(setting, {}):
            raise UserError(f'{where}: {result["config"]} is there twice ({setting})')
        times[setting][result['config']] = result['median_ms']
    return Speed(content['machine'], content['date'], content['versions'], times)


def setting_of(result: Mapping) -> Setting:
    """How a result was measured."""
    return Setting(**{name: result[name] for name in Setting._fields if name in result})


def read_accuracies(paths: Sequence[Path]) -> dict[str, float]:
    """Read the top-1 accuracies of one's own runs.

    Args:
        paths (Sequence[Path]): Files of results, and files of tools/experiments/run.py.

    Returns:
        dict[str, float]: In percent, by config.

    Raises:
        UserError: If a file is not as the head of this module says.
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
            check_positive(where, 'top1', result['top1'])
            if result['config'] in found:
                raise UserError(f'{where}: {result["config"]} is there twice')
            found[result['config']] = result['top1']
    return found


def means_of_runs(path: Path, content: dict) -> list[dict]:
    """The mean of each arm in a file of tools/experiments/run.py; a config is its own arm."""
    check_fields(str(path), content, {'metric': str, 'runs': list})
    if content['metric'] != 'accuracy/top1':
        raise UserError(f'{path} has scores of {content["metric"]}, not of accuracy/top1')
    scores: dict[str, list[float]] = {}
    for i, run in enumerate(content['runs']):
        check_fields(f'{path}: runs[{i}]', run, {'arm': str, 'score': float})
        scores.setdefault(run['arm'], []).append(run['score'])
    return [dict(config=arm, top1=mean(values)) for arm, values in scores.items()]


def mean_of_seeds(path: Path, content: dict) -> dict:
    """The result in a ``seeds.json`` of tools/train_seeds.py, which release 0.2 still had."""
    check_fields(str(path), content, {'config': str, 'mean': dict})
    check_fields(f'{path}: mean', content['mean'], {'accuracy/top1': float})
    return {'config': Path(content['config']).stem, 'top1': content['mean']['accuracy/top1']}


def check_positive(where: str, name: str, value: float) -> None:
    """Refuse what cannot have been measured."""
    if not (isfinite(value) and value > 0):
        raise UserError(f'{where}: {name!r} must be above 0, it is {value}')
