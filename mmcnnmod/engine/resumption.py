"""Where a training stands, in a form from which it goes on as if it had never been interrupted."""

from __future__ import annotations

from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import SequentialSampler

from ..errors import UserError, cause
from .batches import inner_sampler, make_resumable, restart_sampler, sampler_seed
from .random_states import random_states, set_random_states

LOOPS = (EpochBasedTrainLoop, IterBasedTrainLoop)
# Transforms of mmdet that keep earlier images, and its preprocessor that keeps a size.
WITH_MEMORY = {'CachedMosaic', 'CachedMixUp'}
RESIZE = 'BatchSyncRandomResize'


class Progress:
    """How far a training is in its data, and the states of its random number generators.

    Each batch has random numbers of its own (:mod:`~mmcnnmod.engine.batches`), so its number is all
    there is to know of the data, whatever the workers have loaded ahead. The model and the hooks
    draw from the generators of the process, whose states are kept for each process.

    Args:
        runner (Runner): About to train; its data loaders are changed in place.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.loop = runner.train_loop
        self.by_iter = isinstance(self.loop, IterBasedTrainLoop)
        seed = sampler_seed(self.loop.dataloader)
        self.seed = runner.seed if seed is None else seed
        self.batches = make_resumable(self.loop.dataloader, self.seed, endless=self.by_iter)
        self.val_batches = None
        if runner.val_loop is not None:
            self.val_batches = make_resumable(runner.val_loop.dataloader, self.seed)
        self.batch = 0  # batches that training took, of this epoch or, by iterations, of all
        self.validated = False  # whether the validation of this step is over
        self.before_validation: dict | None = None  # random states, while it runs

    def state(self) -> dict:
        """What a checkpoint has to hold; every process calls it, and each gets it."""
        return dict(
            seed=self.seed,
            batch=self.batch,
            validated=self.validated,
            random=all_gather_object(self.before_validation or random_states()),
        )

    def begin(self) -> None:
        """Put the data at their beginning, wherever a hook has left them."""
        self.go_to(0)

    def resume(self, state: dict | None) -> list[str]:
        """Put the data and the generators where a training was interrupted.

        Args:
            state (dict, optional): What :meth:`state` gave, with the ``epoch`` and ``iter`` that
                are done. None for a checkpoint that was written by mmengine's own hook.

        Returns:
            list[str]: What is not as it would be without the interruption; empty if all is.
        """
        lost = self.in_memory_only()
        if state is None:
            self.go_to(self.runner.iter if self.by_iter else 0)
            return [*lost, 'random states, which the checkpoint does not hold']
        try:
            return [*lost, *self.restore(state)]
        except Exception as problem:  # whatever a file may hold in its place
            raise UserError(
                f'checkpoint {self.runner._load_from}: its training_state cannot be restored '
                f'({cause(problem)}); go on from another'
            ) from problem

    def restore(self, state: dict) -> list[str]:
        """What :meth:`resume` does with a state."""
        lost = []
        # FlexibleRunner writes others into a checkpoint that is saved after a validation.
        self.loop._epoch, self.loop._iter = state['epoch'], state['iter']
        self.seed, self.validated = state['seed'], state['validated']
        self.go_to(state['batch'])
        if len(state['random']) == get_world_size():
            if not set_random_states(state['random'][get_rank()]):
                lost.append('random states of the GPUs, for there were more or fewer')
        else:
            lost.append(f'random states, which are those of {len(state["random"])} processes')
        sampler = inner_sampler(self.loop.dataloader)
        keeps_order = isinstance(sampler, (InfiniteSampler, SequentialSampler))
        if (self.by_iter or self.batch) and not (keeps_order or hasattr(sampler, 'epoch')):
            lost.append(f'the order in which {type(sampler).__name__} draws')
        if self.batches is None or type(self.loop) not in LOOPS:
            lost.append('the place in the data, which come without indices or in a loop of its own')
        return lost

    def go_to(self, batch: int) -> None:
        """Let the loop take its next batch at a place in the data."""
        self.batch = batch
        restart_sampler(self.loop.dataloader, self.seed)
        for batches in (self.batches, self.val_batches):
            if batches is not None:
                batches.seed = self.seed
        if self.batches is not None:
            self.batches.first = batch
        if self.by_iter:
            self.loop.dataloader_iterator = FromHere(self)
        elif batch:
            number_from(self.loop, batch)

    def in_memory_only(self) -> list[str]:
        """What mmengine and the toolboxes put into no checkpoint."""
        lost = []
        counts = getattr(self.runner.optim_wrapper, '_accumulative_counts', 1)
        if left := self.runner.iter % counts:
            lost.append(f'the gradients of {left} iterations that were accumulated')
        for name in sorted(transforms_of(self.loop.dataloader.dataset) & WITH_MEMORY):
            lost.append(f'the images that {name} keeps')
        if any(type(part).__name__ == RESIZE for part in self.runner.model.modules()):
            lost.append(f'the size that {RESIZE} has chosen')
        if any(isinstance(hook, EarlyStoppingHook) for hook in self.runner.hooks):
            lost.append('what EarlyStoppingHook has counted')
        return lost

    def validate_if_due(self) -> None:
        """Do the validation that comes after the step at which the training was interrupted."""
        if self.validated or self.runner.val_loop is None or (self.batch and not self.by_iter):
            return
        loop = self.loop
        loop._decide_current_val_interval()
        done, last = (loop.iter, loop.max_iters) if self.by_iter else (loop.epoch, loop.max_epochs)
        if done and done >= loop.val_begin and (done % loop.val_interval == 0 or done == last):
            self.runner.val_loop.run()

    def validation_begins(self) -> None:
        """Note the random states: a validation that is interrupted is done once more."""
        self.before_validation = random_states()

    def validation_is_over(self) -> None:
        """Note that this step needs no validation any more."""
        self.validated, self.before_validation = True, None

    def train_batch_is_over(self, number: int) -> None:
        """Note that the model has seen a batch, by its number in the epoch."""
        self.validated = False
        if not self.by_iter:  # else they are counted as they are taken
            self.batch = number + 1

    def train_epoch_is_over(self) -> None:
        """Note that the next batch is an epoch's first."""
        if not self.by_iter:
            self.batch = 0
            vars(self.loop).pop('run_iter', None)


def transforms_of(dataset: object) -> set[str]:
    """The names of the transforms of a data set and of those inside it."""
    pipeline = getattr(dataset, 'pipeline', None)
    names = {type(part).__name__ for part in getattr(pipeline, 'transforms', pipeline) or []}
    inner = [getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or [])]
    return names.union(*(transforms_of(part) for part in inner if part is not None))


class FromHere:
    """The batches for a loop that counts iterations, from the place where training goes on.

    Such a loop goes through the batches that were used already, up to its iteration; here they are
    passed over without being loaded.

    Args:
        progress (Progress): Counts the batches that are taken.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.used = progress.loop.iter
        self.batches = None

    def skip_iter(self, count: int) -> None:
        """Pass over the used batches at once, as newer versions of mmengine ask for it."""
        self.used = 0

    def __iter__(self) -> FromHere:
        return self

    def __next__(self) -> object:
        if self.used:
            self.used -= 1
            return None
        if self.batches is None:
            self.batches = iter(self.progress.loop.dataloader)
        self.progress.batch += 1
        return next(self.batches)


def number_from(loop: BaseLoop, first: int) -> None:
    """Let a loop that counts epochs number its next batches as they stand in the epoch."""
    run_iter = loop.run_iter
    loop.run_iter = lambda number, batch: run_iter(number + first, batch)
