"""A data loader that can start at any batch and then gives what it would have given there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, Sampler

from ..errors import UserError
from .random_states import seeded


class Batch(list):
    """The indices of a batch. While they are read, random numbers come from the batch's own seed.

    So what a batch holds depends on no batch before it, and on no process that loads it.
    """

    def __init__(self, indices: Iterable[int], seed: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.seed = seed

    def __reduce__(self) -> tuple:
        return Batch, (self[:], self.seed)  # without going through it, which would seed

    def __iter__(self) -> Iterator[int]:
        with seeded(self.seed):
            yield from super().__iter__()


class Batches(Sampler):
    """Wraps a batch sampler: it can start at any batch, and each batch gets a seed.

    Args:
        batches (Iterable): A batch sampler.
        seed (int): Of the training.
        endless (bool): Begin again after the last batch, as loops that count iterations do.
            Defaults to False.
    """

    def __init__(self, batches: Iterable, seed: int, endless: bool = False) -> None:
        self.batches = batches
        self.seed = seed
        self.endless = endless
        self.epoch = 0
        self.first = 0  # where the next iteration starts

    @property
    def sampler(self) -> Sampler | None:
        """The sampler of the wrapped batch sampler, whose epoch mmengine sets."""
        return getattr(self.batches, 'sampler', None)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        first, self.first = self.first, 0
        for number, indices in enumerate(self.passes() if self.endless else self.batches):
            if number >= first:
                yield Batch(indices, (self.seed, get_rank(), self.epoch, number))

    def passes(self) -> Iterator[list[int]]:
        """One pass over the data after the other, each in an order of its own."""
        done = 0
        while True:
            empty = True
            for indices in self.batches:
                empty = False
                yield indices
            if empty:
                raise UserError(
                    'the training data make no batch: take a smaller batch_size, or drop_last=False'
                )
            done += 1
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(done)


def make_resumable(loader: DataLoader, seed: int, endless: bool = False) -> Batches | None:
    """Let a data loader start at any batch. Its workers ignore a SIGTERM that is not its own.

    Args:
        loader (DataLoader): Changed in place; workers that it has started are stopped.
        seed (int): Of the training.
        endless (bool): See :class:`Batches`. Defaults to False.

    Returns:
        Batches | None: What says where it starts. None if the loader makes no batches of indices.
    """
    loader.worker_init_fn = KeepWorking(loader.worker_init_fn)
    # Of its own, so that starting its workers draws nothing from the generator of the training.
    loader.generator = torch.Generator().manual_seed(seed)
    loader._iterator = None
    if loader.batch_sampler is None:
        return None
    if isinstance(loader.batch_sampler, Batches):
        return loader.batch_sampler
    batches = Batches(loader.batch_sampler, seed, endless)
    # torch refuses to set it after a loader was built, for workers that run would not see it.
    object.__setattr__(loader, 'batch_sampler', batches)
    return batches


def sampler_seed(loader: DataLoader) -> int | None:
    """The seed by which a loader's sampler shuffles, None if it keeps none."""
    return getattr(inner_sampler(loader), 'seed', None)


def restart_sampler(loader: DataLoader, seed: int | None) -> None:
    """Put a loader's sampler back to its first index, shuffled by a seed."""
    sampler = inner_sampler(loader)
    if seed is not None and hasattr(sampler, 'seed'):
        sampler.seed = seed
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = sampler._indices_of_rank()
    batches = getattr(loader.batch_sampler, 'batches', None)
    for bucket in getattr(batches, '_aspect_ratio_buckets', []):  # mmdet's, of images so far
        bucket.clear()


def inner_sampler(loader: DataLoader) -> Sampler | None:
    """The sampler that chooses the order of the data."""
    return getattr(loader.batch_sampler, 'sampler', None) or loader.sampler


class KeepWorking:
    """Initialises a worker that ends when its parent says so, and on no other SIGTERM.

    SLURM and shells send the signal to all processes of a job; with its workers gone, training
    could not finish the iteration that it is in.

    Args:
        then (Callable, optional): The loader's own ``worker_init_fn``. Defaults to None.
    """

    def __init__(self, then: Callable[[int], None] | None = None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Initialise the worker of this number."""
        if hasattr(signal, 'sigwaitinfo'):  # not on macOS
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=end_with_parent, daemon=True).start()
        if self.then:
            self.then(worker)


def end_with_parent() -> None:
    """End this process when its parent sends SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
