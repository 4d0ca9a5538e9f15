"""The progress of a training, from which it resumes with bitwise the same result."""

from __future__ import annotations

from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import SequentialSampler

from ..datasets.loading import inner_datasets
from ..errors import UserError, cause
from .batches import inner_sampler, make_resumable, restart_sampler
from .random_states import random_states, set_random_states

LOOPS = (EpochBasedTrainLoop, IterBasedTrainLoop)
# Parts of mmdet with a state that checkpoints do not contain.
CACHING_TRANSFORMS = {'CachedMosaic', 'CachedMixUp'}
RESIZE = 'BatchSyncRandomResize'


class Progress:
    """The position of a training in its data, and the states of its random number generators.

    Each batch has its own seed (:mod:`~mmcnnmod.engine.batches`). The number of the next batch is
    therefore the only state of the data, however many batches the workers have prefetched. The
    model and the hooks draw from the generators of the process, whose states are saved per process.

    Args:
        runner (Runner): The runner, before it trains. Its data loaders are changed in place.

    Attributes:
        batch (int): The number of batches used in this epoch or, in iteration-based training, in
            the whole training.
        validated (bool): Whether the validation after the current step is done.
        before_validation (dict | None): During a validation, the random states before it.
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
        """The state for a checkpoint. Every process must call this and gets the same result."""
        return dict(
            seed=self.seed,
            batch=self.batch,
            validated=self.validated,
            random=all_gather_object(self.before_validation or random_states()),
        )

    def resume(self, state: dict | None) -> list[str]:
        """Restore the position in the data and the random states.

        Args:
            state (dict, optional): The result of :meth:`state`, with the numbers ``epoch`` and
                ``iter`` of completed epochs and iterations. None for a checkpoint of mmengine's own
                hook.

        Returns:
            list[str]: The parts of the state that could not be restored.

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
            lost.append(
                f'random states: the checkpoint has those of {len(state["random"])} processes'
            )
        elif not set_random_states(state['random'][get_rank()]):
            lost.append('random states of the GPUs, because their number has changed')
        sampler = inner_sampler(self.loop.dataloader)
        keeps_order = isinstance(sampler, (InfiniteSampler, SequentialSampler))
        if (self.by_iter or self.batch) and not (keeps_order or hasattr(sampler, 'epoch')):
            lost.append(f'the order of {type(sampler).__name__}')
        if self.batches is None or type(self.loop) not in LOOPS:
            lost.append(
                'the position in the data: it has no indices, or the loop is of another kind'
            )
        return lost

    def go_to(self, batch: int) -> None:
        """Make the loop continue with the batch of this number."""
        self.batch = batch
        restart_sampler(self.loop.dataloader, self.seed)
        for batches in (self.batches, self.val_batches):
            if batches is not None:
                batches.seed = self.seed
        if self.batches is not None:
            self.batches.first = batch
        if self.by_iter:
            self.loop.dataloader_iterator = RemainingBatches(self)
        elif batch:  # the loop counts the remaining batches of the epoch from 0
            run_iter = self.loop.run_iter
            self.loop.run_iter = lambda number, data: run_iter(number + batch, data)

    def not_in_checkpoints(self) -> list[str]:
        """The states that neither mmengine nor the toolboxes save."""
        lost = []
        counts = getattr(self.runner.optim_wrapper, '_accumulative_counts', 1)
        if accumulated := self.runner.iter % counts:
            lost.append(f'the accumulated gradients of {accumulated} iterations')
        for name in sorted(transforms_of(self.loop.dataloader.dataset) & CACHING_TRANSFORMS):
            lost.append(f'the cached images of {name}')
        if any(type(part).__name__ == RESIZE for part in self.runner.model.modules()):
            lost.append(f'the current size of {RESIZE}')
        if any(isinstance(hook, EarlyStoppingHook) for hook in self.runner.hooks):
            lost.append('the counters of EarlyStoppingHook')
        return lost

    def validate_if_due(self) -> None:
        """Run the validation that was due when the training was interrupted."""
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
    return names.union(*map(transforms_of, inner_datasets(dataset)))


class RemainingBatches:
    """The iterator over the remaining batches of an iteration-based training.

    A resumed loop first iterates over the batches that were already used. This iterator skips them
    without loading them.

    Args:
        progress (Progress): The progress, whose ``batch`` is increased for each batch.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.to_skip = progress.loop.iter
        self.batches = None

    def skip_iter(self, count: int) -> None:
        """Skip all used batches at once. Newer versions of mmengine call this."""
        self.to_skip = 0

    def __iter__(self) -> RemainingBatches:
        return self

    def __next__(self) -> object:
        if self.to_skip:
            self.to_skip -= 1
            return None
        if self.batches is None:
            self.batches = iter(self.progress.loop.dataloader)
        self.progress.batch += 1
        return next(self.batches)
