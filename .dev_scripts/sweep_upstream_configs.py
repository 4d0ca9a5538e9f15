"""Try the configs that the installed toolboxes ship, with MoD backbones.

    python .dev_scripts/sweep_upstream_configs.py --json sweep.json
    python .dev_scripts/sweep_upstream_configs.py --toolbox mmseg --sample 30 --seed 1

For each config, `mmcnnmod.swap_backbone` replaces the backbone. Then the sweep builds the model,
initialises it from dummy dense weights, and computes a loss with its gradients and a prediction for
a small batch of small dummy images. A config that fails is tried again with its dense backbone. The
sweep downloads nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Several processes share the cores.
os.environ.update(OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE')

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from sweep.results import Results, failures, table
from sweep.schedule import OURS, Entry, examine_all, read_entry, shuffled_configs
from sweep.smoke_run import seed_and_silence, smoke_run
from sweep.worker import TOOLBOXES, Worker

from mmcnnmod.cli.errors import one_line_errors


def main() -> None:
    """Run the sweep; exit code 1 if a config fails by our fault."""
    args = parse_args()
    seed_and_silence()
    try:
        with one_line_errors():
            results = sweep(args)
    except KeyboardInterrupt:
        hint = f'; the same command continues from {args.json}' if args.json else ''
        print(f'interrupted{hint}', file=sys.stderr)
        sys.exit(130)
    print(*table(results), *failures(results), sep='\n')
    sys.exit(any(result['outcome'] == OURS for result in results.known.values()))


def sweep(args: argparse.Namespace) -> Results:
    """Read the configs and try those without a result."""
    columns = ('{task.description}', BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    worker = Worker(smoke_run, args.seconds, args.memory)
    with Progress(*columns) as progress:
        entries = read_configs(args, progress)
        results = Results(entries, args.json, args.retry)
        todo = results.todo()
        task = progress.add_task('trying', total=len(todo))
        try:
            for entry, result in examine_all(todo, worker, args.jobs):
                results.add(entry, result)
                progress.advance(task)
                if result['outcome'] == OURS:
                    progress.print(f'{entry.title}: {result["step"]}: {result["error"]}')
        finally:
            worker.end()
    return results


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--toolbox', choices=TOOLBOXES, nargs='+', default=TOOLBOXES, help='by default all'
    )
    parser.add_argument(
        '--configs',
        type=toolbox_and_folder,
        nargs='+',
        default=[],
        metavar='TOOLBOX=DIR',
        help='more configs, such as mmdet=CHECKOUT/mmdet/configs, which no wheel contains',
    )
    parser.add_argument('--sample', type=int, metavar='N', help='try N random configs')
    parser.add_argument('--seed', type=int, default=0, help='of the random order; 0 by default')
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help='file for the results; continues from it'
    )
    parser.add_argument('--retry', action='store_true', help='try failed configs again')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='processes; one per core')
    parser.add_argument('--seconds', type=float, default=300, help='limit for one config')
    parser.add_argument('--memory', type=float, default=8, help='limit for one process, in GB')
    args = parser.parse_args()
    if args.json and not args.json.parent.is_dir():
        parser.error(f'--json {args.json}: there is no folder {args.json.parent}')
    return args


def toolbox_and_folder(text: str) -> tuple[str, Path]:
    """Parse a value of --configs."""
    toolbox, _, folder = text.partition('=')
    if toolbox not in TOOLBOXES or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f'{text}: a toolbox ({", ".join(TOOLBOXES)}) and a folder')
    return toolbox, Path(folder).resolve()


def read_configs(args: argparse.Namespace, progress: Progress) -> list[Entry]:
    """Read configs until the sample is complete; returns those to try and the unreadable ones."""
    names = shuffled_configs(args.toolbox, args.seed, tuple(args.configs))
    task = progress.add_task('reading', total=args.sample or len(names))
    entries = []
    for toolbox, name in names:
        entry = read_entry(toolbox, name)
        if entry.backbone or not args.sample:
            progress.advance(task)
        if entry.backbone or entry.error:
            entries.append(entry)
        if args.sample and progress.tasks[task].finished:
            break
    return entries


if __name__ == '__main__':
    main()
