"""tools/evidence/run.py: train what a plan says, one run after another.

In the work dir stand for each run its frozen config PLAN/ARM-SEED.py and a folder PLAN/ARM-SEED
with the whole output, ``train.log``, and what tools/train.py leaves there. The results are written
after every run, see :mod:`mmcnnmod.evidence.results`.
"""

from __future__ import annotations

import argparse
import math
import sys
from datetime import timedelta
from pathlib import Path
from time import monotonic

from mmengine.config import Config
from rich.console import Console

from ..errors import UserError
from ..evidence import Results, Run, read_runs
from ..evidence.lock import Busy
from ..evidence.machine import machine
from ..evidence.results import find_alike
from . import preflight
from .errors import one_line_errors
from .evidence_config import config_of, hash_of, last_step, with_data
from .evidence_training import cost_of, evaluated, train_run
from .programs import OutOfTime, RunFailed, end_child_when_terminated
from .resuming import step_of
from .run import restart_on_cpu

console = Console(highlight=False)


def main(argv: list[str] | None = None) -> None:
    """Train as the command line says; exit code 1 if a run failed.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
    args = parse(argv)
    restart_on_cpu(args)
    end_child_when_terminated()
    with one_line_errors(args.debug):
        evidence = Evidence(args)
        if args.list:
            evidence.show()
            return
        failures = evidence.run_all()
    if failures:
        sys.exit(1)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description='Train what a plan says, one run after another; the same command goes on '
        'after an interruption.'
    )
    add = parser.add_argument
    add('plan', type=Path, help='a YAML file, see configs/evidence')
    add('--data-root', metavar='DIR', help="where the data set lies, in place of the configs' own")
    add('--arms', nargs='+', metavar='ARM', help='only these arms')
    add('--seeds', nargs='+', type=int, metavar='SEED', help='only these seeds')
    add(
        '--time-budget',
        type=minutes,
        metavar='MINUTES',
        help='pick the runs that fit, in the order of the plan; the last one is cut if need be, '
        'and the next start goes on with it',
    )
    add(
        '--results',
        type=Path,
        default=Path('work_dirs/evidence'),
        metavar='DIR',
        help='folder of the results, PLAN.json; default work_dirs/evidence',
    )
    add(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/evidence'),
        metavar='DIR',
        help='folder of logs and checkpoints; default work_dirs/evidence',
    )
    add('--list', action='store_true', help='show the runs and what is known of them; run nothing')
    add('--device', choices=['auto', 'cpu', 'cuda'], default='auto', help='default auto')
    add('--debug', action='store_true', help='show the traceback of an error as well')
    return parser.parse_args(argv)


def minutes(text: str) -> float:
    """A length of time, for argparse."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError
    return value


class Evidence:
    """The runs of a plan, what is known of them, and the time that is left.

    Args:
        args (argparse.Namespace): The options.

    Raises:
        UserError: If the plan or the options are wrong.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.machine = machine(args.device)
        self.runs = chosen(read_runs(args.plan), args.arms, args.seeds)
        plans = {run.plan.name: run.plan for run in self.runs}
        self.results = {name: Results(args.results, plan) for name, plan in plans.items()}
        budget = args.time_budget
        self.deadline = None if budget is None else monotonic() + 60 * budget
        self.configs: dict[tuple[str, str], tuple[Config, str]] = {}

    def known(self, run: Run) -> dict | None:
        """The result of a run; None if it is not done."""
        return self.results[run.plan.name].find(run.arm.name, run.seed)

    def folder(self, run: Run) -> Path:
        """The work dir of a run."""
        return (self.args.work_dir / run.plan.name / f'{run.arm.folder}-{run.seed}').resolve()

    def config(self, run: Run) -> Config:
        """The config of a run's arm, read once."""
        key = (run.plan.name, run.arm.name)
        if key not in self.configs:
            cfg = config_of(run)
            self.configs[key] = with_data(cfg, self.args.data_root), hash_of(cfg)
        return self.configs[key][0]

    def digest(self, run: Run) -> str:
        """The hash of its settings, in which the place of the data has no part."""
        self.config(run)
        return self.configs[run.plan.name, run.arm.name][1]

    def is_outdated(self, run: Run) -> bool:
        """Whether its arm has results of other settings than the plan's now."""
        known = list(self.results[run.plan.name].of(run.arm.name))
        return any(record['config_hash'] != self.digest(run) for record in known)

    def estimate(self, run: Run) -> float | None:
        """How many seconds a run will still take; None if nothing is known."""
        whole = self.results[run.plan.name].seconds(run.arm, self.machine)
        if whole is None or not self.folder(run).is_dir():
            return whole
        done = evaluated(self.folder(run), run.plan.metric, self.config(run))
        return whole * (1 - step_of(done[0]) / last_step(self.config(run))) if done else whole

    def time_left(self, runs: list[Run]) -> str:
        """An estimate for the runs to come."""
        estimates = [self.estimate(run) for run in runs]
        unknown = estimates.count(None)
        seconds = round(sum(x for x in estimates if x is not None))
        if unknown == len(runs):
            return 'time left is known after the first'
        more = f' and {unknown} of unknown length' if unknown else ''
        return f'about {timedelta(seconds=seconds)} left{more}'

    def show(self) -> None:
        """Print a line for each run."""
        for run in self.runs:
            known, estimate = self.known(run), self.estimate(run)
            state = f'{run.plan.metric} {known["score"]:.4g}' if known else 'not run'
            if known and self.is_outdated(run):
                state += ', with other settings than those of the plan now'
            if not known and estimate:
                state += f', about {timedelta(seconds=round(estimate))}'
            console.print(f'{run}: {state}', soft_wrap=True)

    def run_all(self) -> int:
        """Run what is not done; count the failed."""
        self.check()
        todo = [run for run in self.runs if not self.known(run)]
        console.print(f'{len(self.runs) - len(todo)} of {len(self.runs)} runs are done')
        failures = skipped = 0
        for i, run in enumerate(todo):
            if run.source and not self.known(run.source):
                console.print(f'{run}: waits for {run.source}', soft_wrap=True)
                continue
            self.results[run.plan.name].refresh()
            if self.known(run):  # by another process with the same plan
                continue
            if not self.fits(run):
                skipped += 1
                continue
            try:
                record = self.run_one(run, f'{i + 1} of {len(todo)}, {self.time_left(todo[i:])}')
                console.print(f'{run}: {run.plan.metric} {record["score"]:.4g}', soft_wrap=True)
            except Busy as problem:
                console.print(f'{run}: {problem}', soft_wrap=True)
            except OutOfTime:
                skipped += 1
                console.print(f'{run}: cut; the next start goes on with it', soft_wrap=True)
            except RunFailed as problem:
                failures += 1
                print(f'error: {run}: {problem}', file=sys.stderr, flush=True)
            except (KeyboardInterrupt, SystemExit) as stop:
                print(f'\ninterrupted in {run}; the same command goes on', file=sys.stderr)
                sys.exit(getattr(stop, 'code', 130))
        for results in self.results.values():
            if results.path.exists():
                console.print(f'written to {results.path}', soft_wrap=True)
        if skipped:
            console.print(f'{skipped} runs did not fit into the time; the same command goes on')
        return failures

    def fits(self, run: Run) -> bool:
        """Whether the time that is left is enough for a run, as far as is known."""
        if self.deadline is None:
            return True
        left = self.deadline - monotonic()
        return left > 0 and (self.estimate(run) or 0) <= left

    def check(self) -> None:
        """Fail before the first run, and where results are of other settings than the plan's."""
        try:
            self.args.results.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise UserError(f'--results {self.args.results}: {problem.strerror}') from problem
        wanted = {run.key for run in self.runs}
        for run in self.runs:
            if run.source and not self.known(run.source) and run.source.key not in wanted:
                raise UserError(f'{run} needs {run.source}, which was not run; add it to --arms')
        sources = [run.source for run in self.runs if run.source]
        for run in {run.key[:2]: run for run in [*self.runs, *sources]}.values():
            self.check_arm(run)
        names: dict[tuple[str, str], str] = {}
        for run in self.runs:
            other = names.setdefault((run.plan.name, self.digest(run)), run.arm.name)
            if other != run.arm.name:
                raise UserError(
                    f'plan {run.plan.name}: {other} and {run.arm.name} have the same settings'
                )

    def check_arm(self, run: Run) -> None:
        """The part of the check that is the same for all seeds."""
        if self.is_outdated(run):
            raise UserError(
                f'{self.results[run.plan.name].path}: {run.arm.name} was run with other settings '
                'than those of the plan now; choose another --results and --work-dir'
            )
        cfg = self.config(run)
        preflight.check_device(cfg, self.args.device, training=True)
        preflight.check_data(cfg, ('train_dataloader', 'val_dataloader'))

    def run_one(self, run: Run, progress: str) -> dict:
        """Train, or take over from another plan, and record the result."""
        results, cfg, digest = self.results[run.plan.name], self.config(run), self.digest(run)
        cost = None
        if run.plan.image_size and run.arm.name not in results.costs:
            cost = cost_of(run, cfg)
        alike = find_alike(self.args.results, run.plan.metric, digest, run.seed)
        if alike and not run.is_needed:
            plan, record = alike
            console.print(f'{run}: the same as in {plan}', soft_wrap=True)
            record = {**record, 'arm': run.arm.name, 'taken_from': plan}
        else:
            source = self.folder(run.source) if run.source else None
            record = train_run(run, cfg, self.folder(run), source, f'{run} ({progress})',
                               self.args.device, self.deadline)  # fmt: skip
            record['config_hash'] = digest
        results.add(record, cost)
        return record


def chosen(runs: list[Run], arms: list[str] | None, seeds: list[int] | None) -> list[Run]:
    """The runs that the options leave.

    Raises:
        UserError: If they name what no plan has, or leave nothing.
    """
    known = [('--arms', arms, {run.arm.name for run in runs})]
    known.append(('--seeds', seeds, {run.seed for run in runs}))
    for option, wanted, there in known:
        for name in wanted or ():
            if name not in there:
                choices = ', '.join(map(str, sorted(there)))
                raise UserError(f'{option}: the plan has no {name!r}; choose from {choices}')
    left = [
        run
        for run in runs
        if (not arms or run.arm.name in arms) and (not seeds or run.seed in seeds)
    ]
    if not left:
        raise UserError('no run is left by --arms and --seeds')
    return left


if __name__ == '__main__':
    main()
