"""Data loaders that start at any batch, with the same data as in an uninterrupted training."""

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
    """The indices of a batch. While it is iterated over, its seed is set.

    The content of a batch therefore depends neither on earlier batches nor on the worker.
    """

    def __init__(self, indices: Iterable[int], seed: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.seed = seed

    def __reduce__(self) -> tuple:
        return Batch, (self[:], self.seed)  # pickling must not iterate, which would set the seed

    def __iter__(self) -> Iterator[int]:
        with seeded(self.seed):
            yield from super().__iter__()


class Batches(Sampler):
    """A batch sampler that can start at any batch and gives each batch a seed.

    Args:
        batches (Iterable): The batch sampler to wrap.
        seed (int): The seed of the training.
        endless (bool): Start again after the last batch, for iteration-based training. Defaults to
            False.
    """

    def __init__(self, batches: Iterable, seed: int, endless: bool = False) -> None:
        self.batches = batches
        self.seed = seed
        self.endless = endless
        self.epoch = 0
        self.first = 0  # the number of the batch that comes first in the next iteration

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
        """Repeat the data without end, each time in a different order."""
        epoch = 0
        while True:
            indices = None
            for indices in self.batches:
                yield indices
            if indices is None:
                raise UserError(
                    'there are too few training images for a batch: use a smaller batch_size, or '
                    'drop_last=False'
                )
            epoch += 1
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)


def make_resumable(loader: DataLoader, seed: int, endless: bool = False) -> Batches | None:
    """Allow a data loader to start at any batch, and make its workers ignore SIGTERM.

    Args:
        loader (DataLoader): The loader, which is changed in place. Running workers are stopped.
        seed (int): The seed of the training.
        endless (bool): See :class:`Batches`. Defaults to False.

    Returns:
        Batches | None: The new batch sampler, or None if the loader has none.
    """
    loader.worker_init_fn = partial(init_worker, loader.worker_init_fn)
    # Without its own generator, the loader would draw from that of the training.
    loader.generator = torch.Generator().manual_seed(seed)
    loader._iterator = None
    if loader.batch_sampler is None:
        return None
    if isinstance(loader.batch_sampler, Batches):
        return loader.batch_sampler
    batches = Batches(loader.batch_sampler, seed, endless)
    # DataLoader.__setattr__ allows no other batch sampler, because running workers ignore it.
    object.__setattr__(loader, 'batch_sampler', batches)
    return batches


def inner_sampler(loader: DataLoader) -> Sampler | None:
    """The sampler that decides the order of the data."""
    return getattr(loader.batch_sampler, 'sampler', None) or loader.sampler


def restart_sampler(loader: DataLoader, seed: int | None) -> None:
    """Make a loader's sampler start from its first index, shuffled with a seed if given."""
    sampler = inner_sampler(loader)
    if seed is not None and hasattr(sampler, 'seed'):
        sampler.seed = seed
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = sampler._indices_of_rank()
    batches = getattr(loader.batch_sampler, 'batches', None)
    # mmdet's batch sampler keeps the images of incomplete batches.
    for bucket in getattr(batches, '_aspect_ratio_buckets', []):
        bucket.clear()


def init_worker(worker_init_fn: Callable[[int], None] | None, worker: int) -> None:
    """Make a worker ignore SIGTERM unless its parent sends it, then call ``worker_init_fn``.

    SLURM and shells send SIGTERM to all processes of a job. Without its workers, the training could
    not finish the current iteration.

    Args:
        worker_init_fn (Callable, optional): That of the loader.
        worker (int): The number of the worker.
    """
    if hasattr(signal, 'sigwaitinfo'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=exit_on_signal_from_parent, daemon=True).start()
    if worker_init_fn:
        worker_init_fn(worker)


def exit_on_signal_from_parent() -> None:
    """Exit when the parent process sends SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
