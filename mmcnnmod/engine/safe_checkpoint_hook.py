"""Checkpoints that are whole, and from which a training goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmengine.dist import all_gather_object, is_main_process, master_only
from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..checkpoints import read_checkpoint
from ..checkpoints.publishing import write_with_hash
from ..errors import UserError
from ..files import atomic_write, remove_partials
from .resumption import Progress

STATE = 'training_state'
BETWEEN = 'iter_{}.pth'  # of a training by epochs
# FlexibleRunner's strategies by which one process writes one file.
ONE_FILE = ('SingleDeviceStrategy', 'DDPStrategy')


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, for trainings that may be killed at any moment.

    A checkpoint is written beside its place, put on the disk, and then takes its name; so does
    ``last_checkpoint``. An older one is removed after that. This holds for regular, best and
    published checkpoints, in a local folder.

    Checkpoints hold the states of all random number generators and the place in the data. A resumed
    training ends with the same bits as one that was never interrupted. A warning says what cannot
    be restored, see docs/interruptions.md. Checkpoints of mmengine's own hook resume as well.

    In a config: ``default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook', interval=1))``,
    with all arguments of mmengine's hook. The tools of this project put it in its place.

    Raises:
        UserError: If a checkpoint cannot be written.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.progress: Progress | None = None
        self.resumed: dict | None = None  # the state in the checkpoint that was loaded
        self.state: dict | None = None  # the one for the checkpoint that is written
        self.between: str | None = None  # the name of a checkpoint in the middle of an epoch

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what a resumed training needs, until it begins."""
        if runner._resume:
            self.resumed = checkpoint.pop(STATE, None)

    def before_train(self, runner: Runner) -> None:
        """Go on where the training stood, with a validation if one is due."""
        super().before_train(runner)
        if is_local(self.out_dir) and one_process_writes_one_file(runner):
            remove_partials(self.out_dir)
            runner.save_checkpoint = self.whole(runner)
        if len(set(all_gather_object((runner.epoch, runner.iter)))) > 1:
            raise UserError(
                'the processes go on from different checkpoints; copy the work dir to every host'
            )
        self.progress = Progress(runner)
        if not runner._resume or not runner.iter:
            self.progress.begin()
            return
        self.last_ckpt = runner._load_from  # mmengine writes it anew when it has found the best
        lost = self.progress.resume(self.resumed)
        if self.by_epoch and self.progress.batch:
            self.between = BETWEEN.format(runner.iter)
        if lost:
            runner.logger.warning(
                'the training will not end with the same weights as without the interruption, for '
                f'these are not restored: {"; ".join(lost)}'
            )
        self.progress.validate_if_due()

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the batches which epoch they are of."""
        if self.progress.batches is not None:
            self.progress.batches.epoch = runner.epoch

    def after_train_iter(self, runner: Runner, batch_idx: int, *args, **kwargs) -> None:
        """Save, if it is time."""
        self.progress.train_batch_is_over(batch_idx)
        super().after_train_iter(runner, batch_idx, *args, **kwargs)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save, if it is time."""
        self.progress.train_epoch_is_over()
        super().after_train_epoch(runner)

    def before_val(self, runner: Runner) -> None:
        """Prepare for an interruption."""
        if self.progress:
            self.progress.validation_begins()

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best."""
        if self.progress:
            self.progress.validation_is_over()
        super().after_val_epoch(runner, metrics)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add where the training stands."""
        if self.state:
            checkpoint[STATE] = self.state

    def save_now(self, runner: Runner, done: int) -> str:
        """Write a checkpoint before the next iteration; every process calls it.

        In the middle of an epoch it is called ``iter_{}.pth``, and is removed after the next one.

        Args:
            runner (Runner): That trains.
            done (int): Iterations.

        Returns:
            str: The file.
        """
        meta = dict(epoch=runner.epoch, iter=done)
        if not self.by_epoch:
            self._save_checkpoint_with_step(runner, done, meta)
        elif self.progress.batch:
            earlier, self.between = self.between, BETWEEN.format(done)
            self.save(runner, self.between, meta, by_epoch=False)
            if earlier != self.between:
                self.remove(earlier)
        else:
            self._save_checkpoint_with_step(runner, runner.epoch, meta)
        return self.last_ckpt

    def save(self, runner: Runner, name: str, meta: dict, by_epoch: bool) -> None:
        """Write a checkpoint that can be resumed, and name it in last_checkpoint."""
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
            with atomic_write(Path(runner.work_dir, 'last_checkpoint')) as partial:
                partial.write_text(self.last_ckpt)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write a checkpoint, then remove those that are too old."""
        old = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            # Of a training that is killed before they are removed, they are when it is resumed.
            kept = [*self.keep_ckpt_ids, step]
            runner.message_hub.update_info('keep_ckpt_ids', kept)
            self.keep_ckpt_ids.append(step)  # it drops what is too much
            old = [self.filename_tmpl.format(number) for number in kept[: -self.max_keep_ckpts]]
        self.save(runner, self.filename_tmpl.format(step), meta, self.by_epoch)
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.remove(*old, self.between)
        self.between = None

    def remove(self, *names: str | None) -> None:
        """Remove checkpoints, where these are names."""
        for name in filter(None, names):
            if is_main_process():
                remove(self.file_backend, self.file_backend.join_path(self.out_dir, name))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """As mmengine does it, but the best one so far is removed after the new one is there.

        And only if it lies in the folder of the checkpoints.
        """
        backend = self.file_backend
        self.file_backend = later = RemovesLater(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        for path in later.paths:
            # The checkpoint that was resumed names it, and may name anything.
            if not is_local(path) or Path(path).resolve().parent == Path(self.out_dir).resolve():
                remove(backend, path)

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        """Write what ``published_keys`` names of a checkpoint, with a hash in its name."""
        if not is_local(ckpt_path):
            super()._publish_model(runner, ckpt_path)
            return
        content = read_checkpoint(ckpt_path)
        kept = {key: content[key] for key in self.published_keys if key in content}
        path = write_with_hash(kept, ckpt_path, exist_ok=True)
        runner.logger.info(f'{ckpt_path} is published as {path}')

    def whole(self, runner: Runner) -> Callable[..., None]:
        """The runner's ``save_checkpoint``, for files that are whole or not there."""
        save = runner.save_checkpoint

        def save_whole(out_dir: str, filename: str, *args, **kwargs) -> None:
            try:
                with atomic_write(Path(out_dir, filename)) as partial:
                    save(str(partial.parent), partial.name, *args, **kwargs)
            except UserError as problem:
                found = Path(runner.work_dir, 'last_checkpoint')
                last = found.read_text() if found.is_file() else 'none yet'
                raise UserError(
                    f'{problem}; make room, or choose another folder, and go on with --resume '
                    f'(the last whole checkpoint: {last})'
                ) from problem

        return save_whole


class RemovesLater:
    """A file backend that only notes what is to be removed."""

    def __init__(self, backend: BaseStorageBackend) -> None:
        self.backend = backend
        self.paths = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        """Note a file."""
        self.paths.append(path)

    rmtree = remove


def remove(backend: BaseStorageBackend, path: str) -> None:
    """Remove a checkpoint, which may be a folder, if it is there."""
    if backend.isfile(path):
        backend.remove(path)
    elif backend.isdir(path):
        backend.rmtree(path)


def is_local(path: str) -> bool:
    """Whether a path is on this machine, and no URL."""
    return '://' not in str(path)


def one_process_writes_one_file(runner: Runner) -> bool:
    """Whether a checkpoint of a runner is one file, which this process writes."""
    strategy = getattr(runner, 'strategy', None)
    return is_main_process() and (strategy is None or type(strategy).__name__ in ONE_FILE)
