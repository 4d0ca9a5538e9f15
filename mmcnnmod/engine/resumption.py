"""The progress of a training, saved so that a resumed training gives bitwise the same result."""

from __future__ import annotations

from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import SequentialSampler

from ..errors import UserError, cause
from .batches import inner_sampler, make_resumable, restart_sampler
from .random_states import random_states, set_random_states

LOOPS = (EpochBasedTrainLoop, IterBasedTrainLoop)
# mmdet's transforms that keep earlier images, and its preprocessor that keeps a size.
WITH_MEMORY = {'CachedMosaic', 'CachedMixUp'}
RESIZE = 'BatchSyncRandomResize'


class Progress:
    """The position of a training in its data, and the states of its random number generators.

    Each batch has its own random numbers (:mod:`~mmcnnmod.engine.batches`), so the number of the
    batch is all that has to be saved about the data, however far ahead the workers are. The model
    and the hooks draw from the generators of the process, whose states are saved per process.

    Args:
        runner (Runner): About to train; its data loaders are changed in place.

    Attributes:
        batch (int): How many batches were used, of this epoch or, in loops that count iterations,
            of the whole training.
        validated (bool): Whether the validation after the current step is done.
        before_validation (dict | None): The random states before a validation, while it runs.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.loop = runner.train_loop
        self.by_iter = isinstance(self.loop, IterBasedTrainLoop)
        seed = getattr(inner_sampler(self.loop.dataloader), 'seed', None)
        self.seed = runner.seed if seed is None else seed
        self.batches = make_resumable(self.loop.dataloader, self.seed, endless=self.by_iter)
        self.val_batches = None
        if runner.val_loop is not None:
            self.val_batches = make_resumable(runner.val_loop.dataloader, self.seed)
        self.batch = 0
        self.validated = False
        self.before_validation: dict | None = None

    def state(self) -> dict:
        """What a checkpoint has to contain. Every process must call this; each gets the result."""
        return dict(
            seed=self.seed,
            batch=self.batch,
            validated=self.validated,
            random=all_gather_object(self.before_validation or random_states()),
        )

    def resume(self, state: dict | None) -> list[str]:
        """Restore the position in the data and the random states.

        Args:
            state (dict, optional): What :meth:`state` returned, and the numbers ``epoch`` and
                ``iter`` of completed epochs and iterations. None for a checkpoint that mmengine's
                own hook wrote.

        Returns:
            list[str]: What could not be restored.

        Raises:
            UserError: If the state is malformed.
        """
        lost = self.not_in_checkpoints()
        if state is None:
            self.go_to(self.runner.iter if self.by_iter else 0)
            return [*lost, 'random states, which the checkpoint does not contain']
        try:
            return [*lost, *self.restore(state)]
        except Exception as problem:  # a file may contain anything
            raise UserError(
                f'checkpoint {self.runner._load_from}: its training_state cannot be restored '
                f'({cause(problem)}); resume from another checkpoint'
            ) from problem

    def restore(self, state: dict) -> list[str]:
        """Restore a state, see :meth:`resume`."""
        lost = []
        # FlexibleRunner saves other numbers in checkpoints that it writes after a validation.
        self.loop._epoch, self.loop._iter = state['epoch'], state['iter']
        self.seed, self.validated = state['seed'], state['validated']
        self.go_to(state['batch'])
        if len(state['random']) != get_world_size():
            lost.append(f'random states, which are those of {len(state["random"])} processes')
        elif not set_random_states(state['random'][get_rank()]):
            lost.append('random states of the GPUs, because their number has changed')
        sampler = inner_sampler(self.loop.dataloader)
        keeps_order = isinstance(sampler, (InfiniteSampler, SequentialSampler))
        if (self.by_iter or self.batch) and not (keeps_order or hasattr(sampler, 'epoch')):
            lost.append(f'the order of {type(sampler).__name__}')
        if self.batches is None or type(self.loop) not in LOOPS:
            lost.append('the position in the data, which have no indices or another kind of loop')
        return lost

    def go_to(self, batch: int) -> None:
        """Make the loop continue with a batch, given by its number."""
        self.batch = batch
        restart_sampler(self.loop.dataloader, self.seed)
        for batches in (self.batches, self.val_batches):
            if batches is not None:
                batches.seed = self.seed
        if self.batches is not None:
            self.batches.first = batch
        if self.by_iter:
            self.loop.dataloader_iterator = RemainingBatches(self)
        elif batch:  # the loop numbers the batches of the resumed epoch from 0
            run_iter = self.loop.run_iter
            self.loop.run_iter = lambda number, data: run_iter(number + batch, data)

    def not_in_checkpoints(self) -> list[str]:
        """The states that mmengine and the toolboxes do not save."""
        lost = []
        counts = getattr(self.runner.optim_wrapper, '_accumulative_counts', 1)
        if left := self.runner.iter % counts:
            lost.append(f'the accumulated gradients of {left} iterations')
        for name in sorted(transforms_of(self.loop.dataloader.dataset) & WITH_MEMORY):
            lost.append(f'the cached images of {name}')
        if any(type(part).__name__ == RESIZE for part in self.runner.model.modules()):
            lost.append(f'the current size of {RESIZE}')
        if any(isinstance(hook, EarlyStoppingHook) for hook in self.runner.hooks):
            lost.append('the counters of EarlyStoppingHook')
        return lost

    def validate_if_due(self) -> None:
        """Run the validation that the interrupted training had not finished."""
        if self.validated or self.runner.val_loop is None or (self.batch and not self.by_iter):
            return
        loop = self.loop
        loop._decide_current_val_interval()
        done, last = (loop.iter, loop.max_iters) if self.by_iter else (loop.epoch, loop.max_epochs)
        if done and done >= loop.val_begin and (done % loop.val_interval == 0 or done == last):
            self.runner.val_loop.run()


def transforms_of(dataset: object) -> set[str]:
    """The names of the transforms of a data set and of the data sets inside it."""
    pipeline = getattr(dataset, 'pipeline', None)
    names = {type(part).__name__ for part in getattr(pipeline, 'transforms', pipeline) or []}
    inner = [getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or [])]
    return names.union(*(transforms_of(part) for part in inner if part is not None))


class RemainingBatches:
    """The remaining batches of a training, as the iterator of a loop that counts iterations.

    A resumed loop asks for all batches up to its iteration again. Here these are skipped without
    being loaded.

    Args:
        progress (Progress): Its ``batch`` counts the batches that are taken.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.used = progress.loop.iter
        self.batches = None

    def skip_iter(self, count: int) -> None:
        """Skip the used batches at once, as newer versions of mmengine do."""
        self.used = 0

    def __iter__(self) -> RemainingBatches:
        return self

    def __next__(self) -> object:
        if self.used:
            self.used -= 1
            return None
        if self.batches is None:
            self.batches = iter(self.progress.loop.dataloader)
        self.progress.batch += 1
        return next(self.batches)
