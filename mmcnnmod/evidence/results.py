"""What is known of a plan's runs, in a JSON file that is written after each of them.

::

    {"plan": "cifar10_short", "metric": "accuracy/top1",
     "costs": {"R34": {"params": 21282122, "macs": 1160000000}},
     "runs": [{"arm": "R34", "seed": 0, "score": 93.1, "curve": [[5, 70.2], [10, 80.3]],
               "seconds": 81.2, "train_seconds": 60.1, "peak_memory_mb": 2048, ...}]}

``seconds`` is the wall time of the whole program, None if it was interrupted; ``train_seconds`` is
training with its evaluations, over all interruptions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from ..analysis.files import check_fields, read_json
from ..checkpoints import atomic_write
from ..errors import UserError
from .lock import locked
from .plan import Arm, Plan

FILE_FIELDS = {'plan': str, 'metric': str, 'costs': dict, 'runs': list}
RUN_FIELDS = {
    'arm': str,
    'seed': int,
    'score': float,
    'curve': list,
    'train_seconds': float,
    'peak_memory_mb': float,
    'machine': str,
    'versions': dict,
    'config_hash': str,
    'date': str,
}


class Results:
    """The runs of one plan that are done.

    Args:
        folder (Path): Where the file is, or will be, under the plan's name.
        plan (Plan): The plan.

    Raises:
        UserError: If the file is damaged, or its scores are of another metric.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.path = folder / f'{plan.name}.json'
        self.plan = plan
        self.runs: list[dict] = []
        self.costs: dict[str, dict] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the file again: another program may have added runs."""
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        content = read_json(self.path, FILE_FIELDS)
        if content['metric'] != self.plan.metric:
            raise UserError(
                f'{self.path} has scores of {content["metric"]}, the plan says '
                f'{self.plan.metric}; choose another --results'
            )
        for i, run in enumerate(content['runs']):
            check_fields(f'{self.path}: runs[{i}]', run, RUN_FIELDS)
        self.runs, self.costs = content['runs'], content['costs']

    def find(self, arm: str, seed: int) -> dict | None:
        """What is known of a run; None if it is not done."""
        return next((run for run in self.of(arm) if run['seed'] == seed), None)

    def of(self, arm: str) -> Iterator[dict]:
        """What is known of an arm's runs."""
        return (run for run in self.runs if run['arm'] == arm)

    def add(self, run: dict, cost: dict | None) -> None:
        """Add a run and write the file; it is never half-written."""
        check_fields('run', run, RUN_FIELDS)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent, wait=True):
            self.refresh()
            others = [one for one in self.runs if key(one) != key(run)]
            self.runs = sorted([*others, run], key=self._place)
            if cost is not None:
                self.costs[run['arm']] = cost
            content = dict(
                plan=self.plan.name, metric=self.plan.metric, costs=self.costs, runs=self.runs
            )
            with atomic_write(self.path) as partial:
                partial.write_text(one_run_per_line(content))

    def _place(self, run: dict) -> tuple[int, int]:
        """Where a run stands in the file: in the plan's order."""
        order = list(self.plan.arms)
        arm = run['arm']
        return (order.index(arm) if arm in order else len(order)), run['seed']

    def seconds(self, arm: Arm, machine: str) -> float | None:
        """How long a run of an arm takes here: as earlier ones did, else by the arms' weights.

        Args:
            arm (Arm): Of this plan.
            machine (str): Runs on other machines do not count.

        Returns:
            float | None: Seconds; None if nothing is known.
        """
        known: dict[str, list[float]] = {}
        for run in self.runs:
            if run['machine'] == machine and run.get('seconds') and run['arm'] in self.plan.arms:
                known.setdefault(run['arm'], []).append(run['seconds'])
        if arm.name in known:
            return mean(known[arm.name])
        # Too long rather than too short: a run that does not fit is time lost.
        return max(
            (
                mean(seconds) / self.plan.arms[name].weight * arm.weight
                for name, seconds in known.items()
            ),
            default=None,
        )


def key(run: dict) -> tuple[str, int]:
    """By which a run is known within a plan."""
    return run['arm'], run['seed']


def find_alike(folder: Path, metric: str, digest: str, seed: int) -> tuple[str, dict] | None:
    """A run of the same settings and seed in the results of any plan.

    Args:
        folder (Path): Of the results.
        metric (str): Its score.
        digest (str): The settings' hash.
        seed (int): The seed.

    Returns:
        tuple[str, dict] | None: The plan's name and the run; None if there is none.
    """
    for path in sorted(folder.glob('*.json')):
        content = read_json(path, FILE_FIELDS)
        for run in content['runs'] if content['metric'] == metric else ():
            if (run.get('config_hash'), run.get('seed')) == (digest, seed):
                return content['plan'], run
    return None


def one_run_per_line(content: dict) -> str:
    """JSON whose changes are lines of runs."""
    runs = ',\n'.join(f'  {json.dumps(run)}' for run in content['runs'])
    head = json.dumps({**content, 'runs': []}, indent=1)
    return head.removesuffix('[]\n}') + (f'[\n{runs}\n ]\n}}\n' if runs else '[]\n}\n')
