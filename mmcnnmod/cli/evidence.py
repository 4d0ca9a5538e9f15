"""tools/evidence/run.py: train what a plan says, one run after another.

In the work dir stand for each run its frozen config PLAN/ARM-SEED.py and a folder PLAN/ARM-SEED
with the whole output, ``train.log``, and what tools/train.py leaves there. The results are written
after every run, see :mod:`mmcnnmod.evidence.results`.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import re
import signal
import sys
import time
from datetime import date, timedelta
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from ..analysis.counting import count_alike
from ..errors import UserError
from ..evidence import Results, Run, read_runs
from ..evidence.machine import machine, watched_gpu
from ..evidence.plan import CHECKPOINT
from ..evidence.work_dir import read_work_dir
from . import preflight
from .arguments import train_parser
from .config import LOADERS, load_config, map_tree
from .errors import building_from, one_line_errors
from .evidence_progress import RunProgress
from .run import hide_gpus
from .seed_record import versions
from .seeds import OutOfTime, SeedFailed, checkpoints, newest_readable, run_program

console = Console(highlight=False)


def main(argv: list[str] | None = None) -> None:
    """Train as the command line says; exit code 1 if a run failed.

    Args:
        argv (list[str], optional): Options. Defaults to None, those of the process.
    """
    args = parse(argv)
    hide_gpus(args)
    # A terminated program ends its child as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
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
        type=float,
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


class Evidence:
    """The runs of a plan, what is known of them, and the time that is left.

    Args:
        args (argparse.Namespace): The options.

    Raises:
        UserError: If something can be known to be wrong before the first run.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.machine = machine(args.device)
        self.runs = [run for run in read_runs(args.plan) if self.is_wanted(run)]
        if not self.runs:
            raise UserError(f'{args.plan}: no run is left by --arms and --seeds')
        plans = {run.plan.name: run.plan for run in self.runs}
        self.results = {name: Results(args.results, plan) for name, plan in plans.items()}
        minutes = args.time_budget
        self.deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def is_wanted(self, run: Run) -> bool:
        """Whether the options leave a run."""
        arms, seeds = self.args.arms, self.args.seeds
        return (not arms or run.arm.name in arms) and (seeds is None or run.seed in seeds)

    def known(self, run: Run) -> dict | None:
        """The result of a run; None if it is not done."""
        return self.results[run.plan.name].find(run.arm.name, run.seed)

    def folder(self, run: Run, arm: str | None = None) -> Path:
        """The work dir of a run, or of that arm's run with the same seed."""
        name = re.sub(r'[^\w.]+', '-', arm or run.arm.name)
        return (self.args.work_dir / run.plan.name / f'{name}-{run.seed}').resolve()

    def estimate(self, run: Run) -> float | None:
        """How many seconds a run will take; None if nothing is known."""
        return self.results[run.plan.name].seconds(run.arm, self.machine)

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
            if not known and estimate:
                state += f', about {timedelta(seconds=round(estimate))}'
            console.print(f'{run}: {state}', soft_wrap=True)

    def run_all(self) -> int:
        """Run what is not done; count the failed."""
        todo = [run for run in self.runs if not self.known(run)]
        self.check(self.runs)
        console.print(f'{len(self.runs) - len(todo)} of {len(self.runs)} runs are done')
        failures = skipped = 0
        for i, run in enumerate(todo):
            left = None if self.deadline is None else self.deadline - time.monotonic()
            estimate = self.estimate(run)
            if left is not None and (left <= 0 or (estimate is not None and estimate > left)):
                skipped += 1
                continue
            title = f'{run} ({i + 1} of {len(todo)}, {self.time_left(todo[i:])})'
            try:
                record = self.run_one(run, title, left)
                console.print(f'{run}: {run.plan.metric} {record["score"]:.4g}', soft_wrap=True)
            except OutOfTime:
                skipped += 1
            except SeedFailed as problem:
                failures += 1
                print(f'error: {run}: {problem}', file=sys.stderr, flush=True)
            except KeyboardInterrupt:
                sys.exit(f'\ninterrupted in {run}; the same command goes on')
        for results in self.results.values():
            if results.path.exists():
                console.print(f'written to {results.path}', soft_wrap=True)
        if skipped:
            console.print(f'{skipped} runs did not fit into the time; the same command goes on')
        return failures

    def check(self, runs: list[Run]) -> None:
        """Fail before the first run, and where results are of other settings than the plan's."""
        for run in {(run.plan.name, run.arm.name): run for run in runs}.values():
            digest = hash_of(self.config(run))
            for known in self.results[run.plan.name].of(run.arm.name):
                if known['config_hash'] != digest:
                    raise UserError(
                        f'{self.results[run.plan.name].path}: {run.arm.name} was run with other '
                        'settings than those of the plan now; choose another --results and '
                        '--work-dir'
                    )
            cfg = self.config(run, self.args.data_root)
            preflight.check_device(cfg, self.args.device, training=True)
            preflight.check_data(cfg, ('train_dataloader', 'val_dataloader'))

    def config(self, run: Run, data_root: str | None = None) -> Config:
        """The config of a run, with all its settings but the seed."""
        words = [str(run.arm.config), *(['--data-root', data_root] if data_root else [])]
        args = train_parser().parse_args(words)
        args.cfg_options = dict(run.arm.overrides)
        cfg = load_config(args)
        cfg.setdefault('default_hooks', {})['run_facts'] = dict(type='RunFactsHook')
        cfg.pop('work_dir')
        return cfg

    def run_one(self, run: Run, title: str, seconds: float | None) -> dict:
        """Train, unless that is done, and record the result.

        Args:
            run (Run): What to train.
            title (str): For the progress bar.
            seconds (float, optional): After which it is cut; None for no limit.

        Returns:
            dict: What was recorded.

        Raises:
            SeedFailed: With the reason, in one line.
            OutOfTime: If it was cut.
        """
        folder, began = self.folder(run), time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the folder, into which mmengine writes a config of the same name.
        config = folder.with_name(f'{folder.name}.py')
        self.freeze(run, config, folder)
        cost = self.cost(run)
        resume = newest_readable(folder)
        options = ['--work-dir', folder, '--device', self.args.device]
        options += ['--resume', resume] if resume else []
        with (
            (folder / 'train.log').open('a') as log,
            RunProgress(title, log) as progress,
            watched_gpu(self.args.device) as busy,
        ):
            run_program('train', None, config, *options,
                        show=progress.show, seconds=seconds)  # fmt: skip
        try:
            found = read_work_dir(folder, run.plan.metric)
        except UserError as problem:
            raise SeedFailed(str(problem)) from problem
        for old in checkpoints(folder)[1:]:
            old.unlink()
        record = dict(
            arm=run.arm.name,
            seed=run.seed,
            **found,
            seconds=None if resume else round(time.monotonic() - began, 1),
            **busy,
            machine=self.machine,
            versions=versions(),
            config_hash=hash_of(self.config(run)),
            date=date.today().isoformat(),
        )
        self.results[run.plan.name].add(record, cost)
        return record

    def freeze(self, run: Run, path: Path, folder: Path) -> None:
        """Write the config that the run trains; refuse to go on with another one."""
        cfg = self.config(run, self.args.data_root)
        cfg.merge_from_dict({'randomness.seed': run.seed})
        cfg = map_tree(cfg._cfg_dict, lambda node: self.fill_in(run, node))
        text = Config(cfg).pretty_text
        if checkpoints(folder) and path.exists() and path.read_text() != text:
            raise SeedFailed(
                f'{folder} is half-trained with other settings; choose another --work-dir'
            )
        path.write_text(text)

    def fill_in(self, run: Run, node):
        """Put the checkpoint that an arm needs in its place."""
        if run.arm.needs is None or not isinstance(node, str) or CHECKPOINT not in node:
            return node
        found = checkpoints(self.folder(run, run.arm.needs))
        if not found:
            raise SeedFailed(
                f'there is no checkpoint of {run.arm.needs}, seed {run.seed}; train it first, in '
                'this --work-dir'
            )
        return node.replace(CHECKPOINT, str(found[0]))

    def cost(self, run: Run) -> dict | None:
        """Parameters and MACs of an arm's network, if they are not known yet."""
        if run.arm.name in self.results[run.plan.name].costs or run.plan.image_size is None:
            return None
        with building_from(f'config {run.arm.config}'):
            count = count_alike(self.config(run), run.plan.image_size)
        return dict(params=count.params, macs=count.macs)


def hash_of(cfg: Config) -> str:
    """A short fingerprint of a config's settings, the same on every machine."""
    cfg = copy.deepcopy(cfg)
    for name in LOADERS:
        if cfg.get(name):
            cfg[name].pop('pin_memory', None)  # which follows from whether there is a GPU
    return hashlib.sha256(cfg.pretty_text.encode()).hexdigest()[:12]


if __name__ == '__main__':
    main()
