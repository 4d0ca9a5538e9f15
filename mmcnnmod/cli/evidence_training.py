"""One run of a plan: trained in a process of its own, from where it was interrupted."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from time import monotonic

from mmengine.config import Config

from ..analysis.counting import count_alike
from ..errors import UserError
from ..evidence import Run
from ..evidence.lock import Busy, locked
from ..evidence.machine import machine, watched_gpu
from ..evidence.work_dir import curve_of, read_work_dir
from .errors import building_from
from .evidence_config import freeze, last_step
from .evidence_progress import RunProgress
from .programs import RunFailed, run_program
from .resuming import checkpoints, newest_readable, step_of
from .seed_record import versions


def train_run(
    run: Run,
    cfg: Config,
    folder: Path,
    source: Path | None,
    title: str,
    device: str,
    deadline: float | None,
) -> dict:
    """Train, unless that is done; gives what is to be recorded, but for the settings' hash.

    Args:
        run (Run): What to train.
        cfg (Config): Its config, see :func:`freeze`.
        folder (Path): Its work dir.
        source (Path, optional): That of the run whose checkpoint it needs.
        title (str): For the progress bar.
        device (str): 'auto', 'cpu' or 'cuda'.
        deadline (float, optional): On the clock ``time.monotonic``, when it is cut. None for never.

    Returns:
        dict: What :class:`mmcnnmod.evidence.Results` keeps of it.

    Raises:
        RunFailed: With the reason, in one line.
        OutOfTime: If it was cut.
        Busy: If another process trains it.
    """
    began = monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder) as lock:
            config = freeze(cfg, run, source, folder)
            resume = newest_readable(evaluated(folder, run.plan.metric, cfg))
            options = ['--work-dir', folder, '--device', device]
            options += ['--resume', resume] if resume else []
            left = None if deadline is None else max(0.0, deadline - monotonic())
            with (
                (folder / 'train.log').open('a') as log,
                RunProgress(title, log) as progress,
                watched_gpu(device) as busy,
            ):
                run_program('train', None, config, *options, show=progress.show, seconds=left,
                            keep_open=[lock])  # fmt: skip
            found = read_work_dir(folder, run.plan.metric, last_step(cfg))
    except Busy:
        raise
    except (UserError, OSError) as problem:
        raise RunFailed(str(problem)) from problem
    for old in checkpoints(folder)[1:]:
        old.unlink()
    return dict(
        arm=run.arm.name,
        seed=run.seed,
        **found,
        seconds=None if resume else round(monotonic() - began, 1),
        **busy,
        machine=machine(device),
        versions=versions(),
        date=date.today().isoformat(),
    )


def evaluated(folder: Path, metric: str, cfg: Config) -> list[Path]:
    """The checkpoints from which nothing is missing in the learning curve, newest first.

    A checkpoint is written before the evaluation that is due after the same step. A training that
    was interrupted in between would go on without it.
    """
    scores, interval = curve_of(folder, metric), cfg.train_cfg.get('val_interval', 1)
    return [
        path
        for path in checkpoints(folder)
        if step_of(path) in scores or (step_of(path) % interval and step_of(path) != last_step(cfg))
    ]


def cost_of(run: Run, cfg: Config) -> dict:
    """Parameters and MACs of a run's network.

    Raises:
        RunFailed: If it cannot be built.
    """
    try:
        with building_from(f'config {run.arm.config}'):
            count = count_alike(cfg, run.plan.image_size)
    except UserError as problem:
        raise RunFailed(str(problem)) from problem
    return dict(params=count.params, macs=count.macs)
