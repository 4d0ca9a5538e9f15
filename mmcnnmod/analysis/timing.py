"""Time several calls in turns, so that a slowdown of the machine affects all of them."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import torch
from torch.utils.benchmark import Timer

Call = Callable[[], object]

BLOCK = 0.1  # seconds of one measurement: long compared with reading the clock
MEGABYTE = 1e6


class CallFailed(Exception):
    """A timed call raised an exception, which is the cause. The argument is the key of the call."""


def interleaved(
    calls: Mapping[Hashable, Call],
    rounds: int,
    block: float = BLOCK,
    advance: Callable[[], None] = lambda: None,
) -> dict[Hashable, list[float]]:
    """Time calls by ``torch.utils.benchmark``, each once in every round, in random order.

    Args:
        calls (Mapping[Hashable, Call]): The calls.
        rounds (int): The number of measurements of each call.
        block (float): Minimum seconds of a measurement, in which a fast call is repeated. Defaults
            to 0.1.
        advance (Callable[[], None]): Called after each measurement, for a progress bar. Defaults
            to nothing.

    Returns:
        dict[Hashable, list[float]]: Milliseconds per call, one number for each round.

    Raises:
        CallFailed: If a call does, for example because the others use up the memory.
    """
    timers = {
        key: Timer('call()', globals={'call': call}, num_threads=torch.get_num_threads())
        for key, call in calls.items()
    }

    def seconds(key: Hashable, repeats: int) -> float:
        try:
            return timers[key].timeit(repeats).mean
        except Exception as problem:
            raise CallFailed(key) from problem

    # Timer runs each statement twice before it starts the clock, which is the warm-up.
    repeats = {key: max(1, int(block / seconds(key, 1))) for key in timers}
    times: dict[Hashable, list[float]] = {key: [] for key in calls}
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
    """Median and interquartile range of the ratios of two calls' times per round.

    A slowdown affects both times of a round, so it cancels out.
    """
    return median_and_spread(np.divide(times, others))


def peak_memory(call: Call, device: str) -> float:
    """The peak of torch's memory during a call, above what was allocated before.

    This is the memory of activations, gradients and workspaces, without the weights.

    Args:
        call (Call): The call.
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
    # torch does not count the CPU's memory; the profiler records each allocation, in order.
    events = profile.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == '[memory]']
    return float(np.cumsum([0, *changes]).max()) / MEGABYTE
