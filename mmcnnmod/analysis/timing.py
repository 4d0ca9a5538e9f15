"""Time several calls in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch.utils.benchmark import Timer

Key = TypeVar('Key', bound=Hashable)
Call = Callable[[], object]

# Seconds of one measurement, long enough that reading the clock does not matter.
BLOCK = 0.1
MEGABYTE = 1e6


class CallFailed(Exception):
    """The call whose key is its argument raised an exception, its cause, while it was timed."""


def interleaved(
    calls: Mapping[Key, Call],
    rounds: int,
    block: float = BLOCK,
    advance: Callable[[], None] = lambda: None,
) -> dict[Key, list[float]]:
    """Time calls by ``torch.utils.benchmark``, each once in every round, in random order.

    Args:
        calls (Mapping[Key, Call]): What to time.
        rounds (int): How many measurements of each.
        block (float): Seconds that one measurement takes at least; a fast call is repeated within
            it. Defaults to 0.1.
        advance (Callable[[], None]): Called after each measurement, for a progress bar.

    Returns:
        dict[Key, list[float]]: Milliseconds of one call, one number for each round.

    Raises:
        CallFailed: If a call does, which may run out of memory among the others.
    """
    timers = {
        key: Timer('call()', globals={'call': call}, num_threads=torch.get_num_threads())
        for key, call in calls.items()
    }

    def seconds(key: Key, repeats: int) -> float:
        try:
            return timers[key].timeit(repeats).mean
        except Exception as problem:
            raise CallFailed(key) from problem

    # Timer runs each statement twice before it looks at the clock, which is the warm-up.
    repeats = {key: max(1, int(block / seconds(key, 1))) for key in timers}
    times: dict[Key, list[float]] = {key: [] for key in calls}
    order, shuffle = list(calls), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for key in order:
            times[key].append(1000 * seconds(key, repeats[key]))
            advance()
    return times


def median_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The median and the interquartile range."""
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return middle, high - low


def ratio(times: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Median and interquartile range of the ratios of two calls' times in the same rounds.

    A drift of the machine hits both times of a round and so is not in their ratio.
    """
    return median_and_spread(np.divide(times, others))


def peak_memory(call: Call, device: str) -> float:
    """The most memory that torch holds at a time during a call, beyond what it held before.

    So the weights do not count; activations, gradients and workspaces do.

    Args:
        call (Call): What to run.
        device (str): 'cpu' or 'cuda'.

    Returns:
        float: Megabytes (10^6 bytes).
    """
    gc.collect()  # garbage of earlier calls must not be freed during this one
    if device == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MEGABYTE
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        call()
    # torch has no counter of the CPU's memory; the profiler sees every change of it, in order.
    events = profile.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == '[memory]']
    return float(np.cumsum([0, *changes]).max()) / MEGABYTE
