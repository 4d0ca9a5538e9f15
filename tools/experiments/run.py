"""Train a plan of experiments, or a config with several seeds: python run.py PLAN [options].

The work dir contains for each run its config ``PLAN/ARM-SEED.py`` and a folder ``PLAN/ARM-SEED``
with the output ``train.log`` and the files of tools/train.py. The results are written after every
run, see :mod:`results`.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from datetime import timedelta
from pathlib import Path
from statistics import mean, stdev
from time import monotonic

# Read when torch is loaded, see tools/train.py.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

try:
    from mmengine.config import Config
    from plan import Run, plan_of_config, read_runs, select_runs
    from results import Busy, Results, find_equal_run
    from rich.console import Console
    from rich.table import Table
    from settings import config_of, hash_of
    from subprocess_runner import RunFailed, RunTimeout, end_child_when_terminated
    from training import cost_of, train_run
    from work_dir import evaluated_checkpoints, is_within_epoch, last_step

    from mmcnnmod.checkpoints import safe_loading
    from mmcnnmod.cli import preflight
    from mmcnnmod.cli.arguments import add_train
    from mmcnnmod.cli.config import LOADERS, set_data_root
    from mmcnnmod.cli.errors import one_line_errors
    from mmcnnmod.cli.machine import machine
    from mmcnnmod.cli.resuming import step_of
    from mmcnnmod.cli.run import restart_on_cpu
    from mmcnnmod.errors import UserError
except ImportError as problem:
    sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')

console = Console(highlight=False)


def main(argv: list[str] | None = None) -> None:
    """Train the runs of a plan; exit code 1 if a run failed."""
    args = parse(argv)
    restart_on_cpu(args)
    end_child_when_terminated()
    with one_line_errors(args.debug), safe_loading(args.trust_checkpoint):
        experiments = Experiments(args)
        if args.list:
            experiments.list_runs()
        elif experiments.run_all():
            sys.exit(1)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options of the program and of tools/train.py, which apply to every run."""
    parser = argparse.ArgumentParser(
        description='Train the runs of a plan, one after another, or a config with several seeds; '
        'the same command resumes after an interruption.'
    )
    add = parser.add_argument
    add('plan', type=Path, help='a YAML file, see configs/experiments, or a config')
    add('--arms', nargs='+', metavar='ARM', help='only these arms')
    add('--seeds', nargs='+', type=int, metavar='SEED',
        help='only these seeds of a plan; the seeds of a config, by default 0 1 2 3 4')  # fmt: skip
    add('--metric', metavar='NAME',
        help="name of a config's score, such as mIoU; by default its evaluator's")  # fmt: skip
    add('--gpus', type=int, metavar='N', help='train each run on N GPUs')
    add('--tta', action='store_true', help='test with test-time augmentation')
    add('--time-budget', type=minutes, metavar='MINUTES',
        help='start the runs that fit, in the order of the plan; the last one is stopped if '
        'necessary, and the next start resumes it')  # fmt: skip
    add('--results', type=Path, metavar='DIR',
        help='folder of the results file, PLAN.json; by default the work dir')  # fmt: skip
    add('--list', action='store_true', help='show the runs and their results; run nothing')
    add_train(parser)
    parser.set_defaults(work_dir='work_dirs/experiments')
    args = parser.parse_args(argv)
    args.work_dir = Path(args.work_dir)
    args.results = args.results or args.work_dir
    return args


def minutes(text: str) -> float:
    """Parse a duration; argparse names this function in errors."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError
    return value


class Experiments:
    """The runs that the options select, their results, and the deadline."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.machine = machine(args.device)
        self.runs = runs_from(args)
        plans = {run.plan.name: run.plan for run in self.runs}
        self.results = {name: Results(args.results, plan) for name, plan in plans.items()}
        self.deadline = monotonic() + 60 * args.time_budget if args.time_budget else None
        self.configs: dict[tuple[str, str], tuple[Config, str]] = {}

    def results_of(self, run: Run) -> Results:
        """The results of a run's plan."""
        return self.results[run.plan.name]

    def record(self, run: Run) -> dict | None:
        """The record of a run; None if it is not finished."""
        return self.results_of(run).find(run.arm.name, run.seed)

    def folder(self, run: Run) -> Path:
        """The work dir of a run."""
        return (self.args.work_dir / run.plan.name / f'{run.arm.folder}-{run.seed}').resolve()

    def settings(self, run: Run) -> tuple[Config, str]:
        """The config of a run's arm, and its hash, which does not depend on --data-root."""
        key = run.key[:2]
        if key not in self.configs:
            cfg = config_of(run, self.args)
            digest = hash_of(cfg)
            if self.args.data_root:
                set_data_root(cfg, self.args.data_root)
            self.configs[key] = cfg, digest
        return self.configs[key]

    def is_outdated(self, run: Run) -> bool:
        """Whether the arm of a run has results with other settings than the current ones."""
        records = self.results_of(run).of(run.arm.name)
        return any(record['config_hash'] != self.settings(run)[1] for record in records)

    def estimate(self, run: Run) -> float | None:
        """The remaining seconds of a run; None if unknown."""
        total = self.results_of(run).seconds(run.arm, self.machine)
        if total is None or not self.folder(run).is_dir():
            return total
        cfg, _ = self.settings(run)
        paths = evaluated_checkpoints(self.folder(run), run.plan, cfg)
        steps = [step_of(path) for path in paths if not is_within_epoch(path, cfg)]
        return total * (1 - max(steps, default=0) / last_step(cfg))

    def time_left(self, runs: list[Run]) -> str:
        """A text with the estimated time of the remaining runs."""
        estimates = [self.estimate(run) for run in runs]
        known = [seconds for seconds in estimates if seconds is not None]
        if not known:
            return 'the remaining time is known after the first run'
        unknown = len(runs) - len(known)
        more = f' and {unknown} of unknown length' if unknown else ''
        return f'about {timedelta(seconds=round(sum(known)))} left{more}'

    def list_runs(self) -> None:
        """Print a line for each run."""
        for run in self.runs:
            if record := self.record(run):
                state = f'{run.plan.metric} {record["score"]:.4g}'
                if self.is_outdated(run):
                    state += ', with settings other than the current ones'
            else:
                state = 'not run'
                if estimate := self.estimate(run):
                    state += f', about {timedelta(seconds=round(estimate))}'
            if failure := self.results_of(run).failure(run):
                state += f', {failure}'
            console.print(f'{run}: {state}', soft_wrap=True)

    def run_all(self) -> int:
        """Run all unfinished runs; returns the number of failures."""
        self.check()
        todo = [run for run in self.runs if not self.record(run)]
        console.print(f'{len(self.runs) - len(todo)} of {len(self.runs)} runs are done')
        failures = skipped = 0
        for i, run in enumerate(todo):
            if run.source and not self.record(run.source):
                console.print(f'{run}: skipped, because it needs {run.source}', soft_wrap=True)
                continue
            results = self.results_of(run)
            results.refresh()
            if self.record(run):  # another process has finished it
                continue
            if not self.fits(run):
                skipped += 1
                continue
            try:
                record = self.run_one(run, f'{i + 1} of {len(todo)}, {self.time_left(todo[i:])}')
                console.print(f'{run}: {run.plan.metric} {record["score"]:.4g}', soft_wrap=True)
            except Busy as problem:
                console.print(f'{run}: {problem}', soft_wrap=True)
            except RunTimeout:
                skipped += 1
                console.print(f'{run}: stopped; the next start resumes it', soft_wrap=True)
            except RunFailed as problem:
                failures += 1
                results.fail(run, str(problem))
                print(f'error: {run}: {problem}', file=sys.stderr, flush=True)
            except (KeyboardInterrupt, SystemExit) as stop:
                print(f'\ninterrupted during {run}; repeat the command to resume', file=sys.stderr)
                sys.exit(getattr(stop, 'code', 130))
        for results in self.results.values():
            show_results(results)
        if skipped:
            console.print(f'{skipped} runs did not fit into the time; run it again to continue')
        return failures

    def fits(self, run: Run) -> bool:
        """Whether there is time left, and enough for a run if its duration is known."""
        left = math.inf if self.deadline is None else self.deadline - monotonic()
        return left > 0 and (self.estimate(run) or 0) <= left

    def check(self) -> None:
        """Raise errors before the first run: wrong options or plans, results of other settings."""
        for option, folder in (('results', self.args.results), ('work-dir', self.args.work_dir)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                raise UserError(f'--{option} {folder}: {problem.strerror}') from problem
        selected = {run.key for run in self.runs}
        for run in self.runs:
            if run.source and not self.record(run.source) and run.source.key not in selected:
                raise UserError(f'{run} needs {run.source}, which has not run; add it to --arms')
        sources = [run.source for run in self.runs if run.source]
        for run in {run.key[:2]: run for run in [*self.runs, *sources]}.values():
            self.check_arm(run)
        names: dict[tuple[str, str], str] = {}
        for run in self.runs:
            other = names.setdefault((run.plan.name, self.settings(run)[1]), run.arm.name)
            if other != run.arm.name:
                raise UserError(
                    f'plan {run.plan.name}: {other} and {run.arm.name} have the same settings'
                )

    def check_arm(self, run: Run) -> None:
        """Check the settings of a run's arm, which are the same for all seeds."""
        if self.is_outdated(run):
            raise UserError(
                f'{self.results_of(run).path}: {run.arm.name} was run with settings other than '
                'the current ones; choose other folders with --results and --work-dir'
            )
        (cfg, _), test = self.settings(run), run.plan.test
        if test and cfg.get('test_dataloader') is None:
            raise UserError(f'config {run.arm.config} has no test_dataloader, so it has no score')
        if self.args.tta and not test:
            raise UserError(f'--tta: plan {run.plan.name} has no test, see its option test')
        preflight.check_device(cfg, self.args.device, training=True)
        if start := cfg.get('load_from'):
            preflight.check_readable(start)
        preflight.check_data(cfg, LOADERS if test else ('train_dataloader', 'val_dataloader'))

    def run_one(self, run: Run, progress: str) -> dict:
        """Train, or reuse the run of another plan, and record the result."""
        results, (cfg, digest) = self.results_of(run), self.settings(run)
        cost = None
        if run.plan.image_size and run.arm.name not in results.costs:
            cost = cost_of(run, cfg)
        equal_run = find_equal_run(self.args.results, run.plan.metric, digest, run.seed)
        if equal_run and not run.is_needed:
            plan, record = equal_run
            console.print(f'{run}: the same as in {plan}', soft_wrap=True)
            record = {**record, 'arm': run.arm.name, 'taken_from': plan}
        else:
            source = self.folder(run.source) if run.source else None
            record = train_run(run, cfg, self.folder(run), source, f'{run} ({progress})',
                               self.args, self.deadline)  # fmt: skip
            record['config_hash'] = digest
        results.add(record, cost)
        return record


def runs_from(args: argparse.Namespace) -> list[Run]:
    """The runs that the options select. Raises errors for invalid options."""
    if args.launcher != 'none':
        raise UserError('--launcher: use --gpus N instead; it starts each run on N GPUs')
    if args.resume not in (None, 'auto'):
        raise UserError('--resume needs no checkpoint here: each run resumes from its own')
    if args.gpus is not None and args.gpus < 1:
        raise UserError(f'--gpus {args.gpus}: must be at least 1')
    if args.plan.suffix == '.py':
        runs = plan_of_config(args.plan, args.seeds, args.metric).runs
    elif args.metric:
        raise UserError(f'--metric is for a config; plan {args.plan} has its own')
    else:
        runs = read_runs(args.plan)
    return select_runs(runs, args.arms, args.seeds, str(args.plan))


def show_results(results: Results) -> None:
    """Print a table with the scores of each arm, and the path of the file."""
    if results.runs:
        metric = results.plan.metric
        names = {metric: None}
        names |= dict.fromkeys(name for run in results.runs for name in run.get('metrics', {}))
        table = Table('', 'runs', *names, caption='mean ± deviation (n - 1)')
        for arm in results.plan.arms:
            if runs := results.of(arm):
                rows = [{**run.get('metrics', {}), metric: run['score']} for run in runs]
                columns = [[row[name] for row in rows if name in row] for name in names]
                table.add_row(arm, str(len(runs)), *map(mean_and_deviation, columns))
        # If the output is not a terminal, rich would shorten the table to 80 characters.
        Console(width=None if console.is_terminal else 200, highlight=False).print(table)
    if results.path.exists():
        console.print(f'written to {results.path}', soft_wrap=True)


def mean_and_deviation(values: list[float]) -> str:
    """Format the mean and the standard deviation for the table."""
    if len(values) < 2:
        return ''.join(f'{value:.4g}' for value in values) or '-'
    return f'{mean(values):.4g} ± {stdev(values):.4g}'


if __name__ == '__main__':
    main()
