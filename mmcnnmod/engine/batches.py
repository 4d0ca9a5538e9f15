"""Data loaders that can start at any batch and load what an uninterrupted training would load."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, Sampler

from ..errors import UserError
from .random_states import seeded


class Batch(list):
    """The indices of a batch. While they are iterated over, the batch's own seed is in effect.

    The content of a batch therefore depends neither on earlier batches nor on the worker.
    """

    def __init__(self, indices: Iterable[int], seed: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.seed = seed

    def __reduce__(self) -> tuple:
        return Batch, (self[:], self.seed)  # pickling must not iterate, which would seed

    def __iter__(self) -> Iterator[int]:
        with seeded(self.seed):
            yield from super().__iter__()


class Batches(Sampler):
    """Wraps a batch sampler so that it can start at any batch, and gives each batch a seed.

    Args:
        batches (Iterable): A batch sampler.
        seed (int): The seed of the training.
        endless (bool): Start over after the last batch, for loops that count iterations.
            Defaults to False.
    """

    def __init__(self, batches: Iterable, seed: int, endless: bool = False) -> None:
        self.batches = batches
        self.seed = seed
        self.endless = endless
        self.epoch = 0
        self.first = 0  # the batch at which the next iteration starts

    @property
    def sampler(self) -> Sampler | None:
        """The sampler of the wrapped batch sampler; mmengine sets its epoch."""
        return getattr(self.batches, 'sampler', None)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        first, self.first = self.first, 0
        for number, indices in enumerate(self.repeat() if self.endless else self.batches):
            if number >= first:
                yield Batch(indices, (self.seed, get_rank(), self.epoch, number))

    def repeat(self) -> Iterator[list[int]]:
        """Iterate over the data repeatedly, each time in another order."""
        epoch = 0
        while True:
            indices = None
            for indices in self.batches:
                yield indices
            if indices is None:
                raise UserError(
                    'the training data are too few for a batch: use a smaller batch_size, or '
                    'drop_last=False'
                )
            epoch += 1
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)


def make_resumable(loader: DataLoader, seed: int, endless: bool = False) -> Batches | None:
    """Let a data loader start at any batch, and its workers ignore SIGTERM from other processes.

    Args:
        loader (DataLoader): Changed in place; running workers are stopped.
        seed (int): The seed of the training.
        endless (bool): See :class:`Batches`. Defaults to False.

    Returns:
        Batches | None: The new batch sampler. None if the loader has no batches of indices.
    """
    loader.worker_init_fn = partial(init_worker, loader.worker_init_fn)
    # With its own generator, starting workers draws nothing from the generator of the training.
    loader.generator = torch.Generator().manual_seed(seed)
    loader._iterator = None
    if loader.batch_sampler is None:
        return None
    if isinstance(loader.batch_sampler, Batches):
        return loader.batch_sampler
    batches = Batches(loader.batch_sampler, seed, endless)
    # DataLoader.__setattr__ refuses to replace it, because running workers would not notice.
    object.__setattr__(loader, 'batch_sampler', batches)
    return batches


def inner_sampler(loader: DataLoader) -> Sampler | None:
    """The sampler that decides the order of the data."""
    return getattr(loader.batch_sampler, 'sampler', None) or loader.sampler


def restart_sampler(loader: DataLoader, seed: int | None) -> None:
    """Reset a loader's sampler to its first index, shuffled by a seed."""
    sampler = inner_sampler(loader)
    if seed is not None and hasattr(sampler, 'seed'):
        sampler.seed = seed
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = sampler._indices_of_rank()
    batches = getattr(loader.batch_sampler, 'batches', None)
    for bucket in getattr(batches, '_aspect_ratio_buckets', []):  # mmdet collects images in them
        bucket.clear()


def init_worker(then: Callable[[int], None] | None, worker: int) -> None:
    """Initialise a loading process that SIGTERM ends only if its parent sends it.

    SLURM and shells send the signal to all processes of a job. Without its workers, the training
    could not finish the current iteration.

    Args:
        then (Callable, optional): The loader's own ``worker_init_fn``.
        worker (int): The number of the worker.
    """
    if hasattr(signal, 'sigwaitinfo'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=end_with_parent, daemon=True).start()
    if then:
        then(worker)


def end_with_parent() -> None:
    """End this process when its parent sends SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
