"""The results of a plan, in a JSON file, and their summary.

::

    {"plan": "cifar10_short", "metric": "accuracy/top1",
     "costs": {"R34": {"params": 21282122, "macs": 1160000000}},
     "runs": [{"arm": "R34", "seed": 0, "score": 93.1, "curve": [[5, 70.2], [10, 80.3]],
               "seconds": 81.2, "train_seconds": 60.1, "peak_memory_mb": 2048, ...}]}

``seconds`` is the wall time of the run with its test, None if it was interrupted. ``train_seconds``
is the time of training with its evaluations, over all interruptions. A run with a test also has
``checkpoint``, the name of the tested file, and ``metrics``, all numbers of the test. ``failures``
has the reason why the last attempt of a run failed, by arm and seed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from plan import Arm, Plan, Run

from mmcnnmod.analysis.files import check_fields, read_json
from mmcnnmod.errors import UserError
from mmcnnmod.files import atomic_write, remove_partials

FILE_FIELDS = {'plan': str, 'metric': str, 'costs': dict, 'runs': list}
RUN_FIELDS = {
    'arm': str, 'seed': int, 'score': float, 'curve': list, 'train_seconds': float,
    'peak_memory_mb': float, 'machine': str, 'versions': dict, 'config_hash': str, 'date': str,
}  # fmt: skip
# With fewer runs, the standard deviation is unreliable.
MINIMUM_RUNS = 3


class Busy(Exception):
    """Another process has locked a folder."""


class Results:
    """The finished runs of one plan.

    Args:
        folder (Path): The folder of the file, which has the plan's name.
        plan (Plan): The plan.

    Raises:
        UserError: If the file is damaged, or its scores are of another metric.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.path = folder / f'{plan.name}.json'
        self.plan = plan
        self.runs: list[dict] = []
        self.costs: dict[str, dict] = {}
        self.failures: dict[str, str] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the file again, because another process may have added runs."""
        if not self.path.exists():
            return
        content = read_json(self.path, FILE_FIELDS)
        if content['runs'] and content['metric'] != self.plan.metric:
            raise UserError(
                f'{self.path} has scores of {content["metric"]}, but the plan has '
                f'{self.plan.metric}; choose another --results'
            )
        for i, run in enumerate(content['runs']):
            check_fields(f'{self.path}: runs[{i}]', run, RUN_FIELDS)
        self.runs, self.costs = content['runs'], content['costs']
        self.failures = content.get('failures', {})

    def of(self, arm: str) -> list[dict]:
        """The records of an arm's runs."""
        return [run for run in self.runs if run['arm'] == arm]

    def find(self, arm: str, seed: int) -> dict | None:
        """The record of a run; None if it is not finished."""
        return next((run for run in self.of(arm) if run['seed'] == seed), None)

    def failure(self, run: Run) -> str | None:
        """The reason why the last attempt of a run failed; None if it did not fail."""
        return self.failures.get(f'{run.arm.name}, seed {run.seed}')

    def add(self, run: dict, cost: dict | None) -> None:
        """Add the record of a run, and 'params' and 'macs' of its arm, and write the file."""
        check_fields('run', run, RUN_FIELDS)
        arm, seed = run['arm'], run['seed']
        # In the order of the plan; arms that are no longer in the plan come last.
        order = {name: i for i, name in enumerate(self.plan.arms)}
        with self._changing():
            others = [other for other in self.runs if (other['arm'], other['seed']) != (arm, seed)]
            self.runs = sorted(
                [*others, run], key=lambda run: (order.get(run['arm'], len(order)), run['seed'])
            )
            self.failures.pop(f'{arm}, seed {seed}', None)
            if cost is not None:
                self.costs[arm] = cost

    def fail(self, run: Run, reason: str) -> None:
        """Record why the last attempt of a run failed, and write the file."""
        with self._changing():
            self.failures[f'{run.arm.name}, seed {run.seed}'] = reason

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Read the file, let the caller change the content, and write it, while it is locked."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent, wait=True):
            # Another process may be writing a report to the same folder.
            remove_partials(self.path.parent, self.path.suffix)
            self.refresh()
            yield
            content = dict(plan=self.plan.name, metric=self.plan.metric, costs=self.costs)
            content |= {'failures': self.failures} if self.failures else {}
            # One line per run, so that version control shows the changed runs.
            runs = ',\n'.join(f'  {json.dumps(run)}' for run in self.runs)
            head = json.dumps({**content, 'runs': []}, indent=1).removesuffix('[]\n}')
            with atomic_write(self.path) as partial:
                partial.write_text(head + (f'[\n{runs}\n ]\n}}\n' if runs else '[]\n}\n'))

    def seconds(self, arm: Arm, machine: str) -> float | None:
        """The expected duration of a run, from runs of the same or another arm; None if unknown."""
        known: dict[str, list[float]] = {}
        for run in self.runs:
            if run['machine'] == machine and run.get('seconds') and run['arm'] in self.plan.arms:
                known.setdefault(run['arm'], []).append(run['seconds'])
        if arm.name in known:
            return mean(known[arm.name])
        # An estimate that is too short wastes time on a run that must be stopped.
        weights = {name: arm.weight / self.plan.arms[name].weight for name in known}
        return max((mean(known[name]) * weights[name] for name in known), default=None)


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[int]:
    """Lock a folder; without ``wait``, raise Busy if another process has locked it.

    Processes that inherit the descriptor also hold the lock, until all of them have ended.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Busy(
                f'another process uses {folder}; wait until it ends, or end it (`fuser {folder}` '
                'shows it)'
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)


def find_equal_run(folder: Path, metric: str, digest: str, seed: int) -> tuple[str, dict] | None:
    """The plan and the record of a run with the same settings and seed, in any plan's results."""
    for path in sorted(folder.glob('[!.]*.json')):
        content = read_json(path, {})
        for run in content.get('runs', ()) if content.get('metric') == metric else ():
            if (run.get('config_hash'), run.get('seed')) == (digest, seed):
                return path.stem, run
    return None


@dataclass(frozen=True)
class Summary:
    """The finished runs of one arm, with scaled scores.

    ``planned`` is the number of seeds in the plan. ``cost`` has 'params' and 'macs', or is empty.
    """

    arm: Arm
    runs: list[dict]
    planned: int
    cost: dict

    @property
    def mean(self) -> float:
        """The mean of the scores, of which there must be at least one."""
        return mean(run['score'] for run in self.runs)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the sample (n - 1); None with fewer than two runs."""
        return stdev(run['score'] for run in self.runs) if len(self.runs) > 1 else None

    def against(self, baseline: Summary) -> tuple[float, float | None]:
        """The difference of the means, and the difference in deviations.

        The latter is divided by the root of the mean of both variances. It is None with fewer than
        three runs, or if both deviations are 0.
        """
        difference = self.mean - baseline.mean
        deviations = (self.deviation, baseline.deviation)
        if min(len(self.runs), len(baseline.runs)) < MINIMUM_RUNS or not any(deviations):
            return difference, None
        return difference, difference / mean(d**2 for d in deviations) ** 0.5


def summaries(results: Results) -> dict[str, Summary]:
    """A summary of each arm of a plan, by name, without runs that are not in the plan."""
    plan, found = results.plan, {}
    for name, arm in plan.arms.items():
        runs = [
            {
                **run,
                'score': plan.scale * run['score'],
                'curve': [[step, plan.scale * score] for step, score in run['curve']],
            }
            for run in results.of(name)
            if run['seed'] in plan.seeds
        ]
        found[name] = Summary(arm, runs, len(plan.seeds), results.costs.get(name, {}))
    return found
