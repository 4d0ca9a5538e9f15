"""A checkpoint hook that writes complete files and resumes a training exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from mmengine.dist import all_gather_object, is_main_process, master_only
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..checkpoints import read_checkpoint
from ..checkpoints.publishing import write_with_hash
from ..errors import UserError
from ..files import atomic_write, remove_partials
from .random_states import random_states
from .resumption import Progress

STATE = 'training_state'
WITHIN_EPOCH = 'iter_{}.pth'  # the name of a checkpoint in the middle of an epoch
# The strategies of FlexibleRunner that write a checkpoint as one file, from one process.
ONE_FILE = ('SingleDeviceStrategy', 'DDPStrategy')


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, for trainings that may be killed at any moment.

    The hook writes a checkpoint under a temporary name, synchronises it to disk and renames it. It
    does the same with ``last_checkpoint``. Only then does it remove older checkpoints. This applies
    to regular, best and published checkpoints in a local folder.

    Checkpoints contain the states of all random number generators and the position in the data, so
    a resumed training gives bitwise the same result as an uninterrupted one. A warning names the
    states that cannot be restored, see docs/interruptions.md. A training can also be resumed from
    checkpoints of mmengine's hook.

    In a config: ``default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook', interval=1))``,
    with any arguments of mmengine's hook. The tools of this project use it by default.

    Raises:
        UserError: If a checkpoint cannot be written.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.progress: Progress | None = None
        self.resumed: dict | None = None  # the state in the loaded checkpoint
        self.state: dict | None = None  # the state for the checkpoint that is being written
        self.within_epoch: str | None = None  # the last checkpoint, if in the middle of an epoch

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the state of a resumed training until the training begins."""
        if runner._resume:
            self.resumed = checkpoint.pop(STATE, None)

    def before_train(self, runner: Runner) -> None:
        """Restore the progress of a resumed training, and run the validation that was due."""
        super().before_train(runner)
        strategy = getattr(runner, 'strategy', None)
        one_file = strategy is None or type(strategy).__name__ in ONE_FILE
        if one_file and is_main_process() and is_local(self.out_dir):
            for folder in {self.out_dir, runner.work_dir}:
                remove_partials(folder)
            runner.save_checkpoint = partial(save_atomically, runner, runner.save_checkpoint)
        if len(set(all_gather_object((runner.epoch, runner.iter)))) > 1:
            raise UserError(
                'the processes resume from different checkpoints; copy the work dir to every host'
            )
        self.progress = Progress(runner)
        if not runner._resume or not runner.iter:
            self.progress.go_to(0)  # another hook may have used some batches
            return
        self.last_ckpt = runner._load_from  # mmengine saves it again with the best score
        lost = self.progress.resume(self.resumed)
        if self.by_epoch and self.progress.batch:
            self.within_epoch = WITHIN_EPOCH.format(runner.iter)
        if lost:
            runner.logger.warning(
                'the training will not end with the same weights as without the interruption; not '
                f'restored: {"; ".join(lost)}'
            )
        self.progress.validate_if_due()

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the epoch of the batches."""
        if self.progress.batches is not None:
            self.progress.batches.epoch = runner.epoch

    def after_train_iter(self, runner: Runner, batch_idx: int, *args, **kwargs) -> None:
        """Count the batch, and save if due."""
        self.progress.validated = False
        if not self.progress.by_iter:  # RemainingBatches counts those of iteration-based training
            self.progress.batch = batch_idx + 1
        super().after_train_iter(runner, batch_idx, *args, **kwargs)

    def after_train_epoch(self, runner: Runner) -> None:
        """Make the next epoch start with its first batch, and save if due."""
        if not self.progress.by_iter:
            self.progress.batch = 0
            vars(self.progress.loop).pop('run_iter', None)  # see Progress.go_to
        super().after_train_epoch(runner)

    def before_val(self, runner: Runner) -> None:
        """Keep the random states, because a resumed training repeats an interrupted validation."""
        if self.progress:
            self.progress.before_validation = random_states()

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint."""
        if self.progress:
            self.progress.validated, self.progress.before_validation = True, None
        super().after_val_epoch(runner, metrics)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the progress of the training."""
        if self.state:
            checkpoint[STATE] = self.state

    def save_now(self, runner: Runner, done: int) -> str:
        """Write a checkpoint between two iterations. Every process must call this.

        In the middle of an epoch its name is ``iter_{}.pth``, and the next checkpoint replaces it.

        Args:
            runner (Runner): The runner.
            done (int): The number of completed iterations.

        Returns:
            str: The path of the checkpoint.
        """
        meta = dict(epoch=runner.epoch, iter=done)
        if not self.by_epoch:
            self._save_checkpoint_with_step(runner, done, meta)
        elif self.progress.batch:
            previous, self.within_epoch = self.within_epoch, WITHIN_EPOCH.format(done)
            self.save(runner, self.within_epoch, meta, by_epoch=False)
            if previous != self.within_epoch:
                self.remove(previous)
        else:
            self._save_checkpoint_with_step(runner, runner.epoch, meta)
        return self.last_ckpt

    def save(self, runner: Runner, name: str, meta: dict, by_epoch: bool) -> None:
        """Write a checkpoint with the progress of the training, and ``last_checkpoint``."""
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self.state = dict(epoch=meta['epoch'], iter=meta['iter'], **self.progress.state())
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self.state = None
        if is_main_process():
            with atomic_write(Path(runner.work_dir, 'last_checkpoint')) as path:
                path.write_text(self.last_ckpt)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write a checkpoint, then remove the oldest to keep ``max_keep_ckpts``."""
        old = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            # If the training is killed before it removes old ones, the resumed training does so.
            kept = [*self.keep_ckpt_ids, step]
            runner.message_hub.update_info('keep_ckpt_ids', kept)
            self.keep_ckpt_ids.append(step)  # a deque that drops the oldest
            old = [self.filename_tmpl.format(number) for number in kept[: -self.max_keep_ckpts]]
        self.save(runner, self.filename_tmpl.format(step), meta, self.by_epoch)
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.remove(*old, self.within_epoch)
        self.within_epoch = None

    def remove(self, *names: str | None) -> None:
        """Remove checkpoints by their names, which may be None."""
        if is_main_process():
            for name in filter(None, names):
                remove(self.file_backend, self.file_backend.join_path(self.out_dir, name))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint, and only then remove the previous best one.

        The previous one is kept if it is not in the folder of the checkpoints.
        """
        backend, to_remove = self.file_backend, []
        # mmengine removes the previous one first.
        self.file_backend = SimpleNamespace(
            isfile=backend.isfile,
            isdir=backend.isdir,
            join_path=backend.join_path,
            remove=to_remove.append,
            rmtree=to_remove.append,
        )
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        for path in to_remove:
            # The path may come from the resumed checkpoint, which may contain anything.
            if not is_local(path) or Path(path).resolve().parent == Path(self.out_dir).resolve():
                remove(backend, path)

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        """Write the ``published_keys`` of a checkpoint to a file with a hash in its name."""
        if not is_local(ckpt_path):
            super()._publish_model(runner, ckpt_path)
            return
        content = read_checkpoint(ckpt_path)
        kept = {key: content[key] for key in self.published_keys if key in content}
        path = write_with_hash(kept, ckpt_path, exist_ok=True)
        runner.logger.info(f'{ckpt_path} is published as {path}')


def save_atomically(
    runner: Runner, save: Callable[..., None], out_dir: str, filename: str, *args, **kwargs
) -> None:
    """Replaces a runner's ``save_checkpoint``: writes a file completely or not at all."""
    try:
        with atomic_write(Path(out_dir, filename)) as path:
            save(str(path.parent), path.name, *args, **kwargs)
    except UserError as problem:
        file = Path(runner.work_dir, 'last_checkpoint')
        last = file.read_text() if file.is_file() else 'none yet'
        raise UserError(
            f'{problem}; free some space, or choose another folder, and continue with --resume '
            f'(last complete checkpoint: {last})'
        ) from problem


def remove(backend: object, path: str) -> None:
    """Remove a checkpoint, which is a file or a folder, if it exists."""
    if backend.isfile(path):
        backend.remove(path)
    elif backend.isdir(path):
        backend.rmtree(path)


def is_local(path: str) -> bool:
    """Whether a path is not a URL."""
    return '://' not in str(path)
