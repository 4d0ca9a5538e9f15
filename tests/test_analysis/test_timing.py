"""Timing in turns, statistics of times, and peak memory."""

from functools import partial
from itertools import pairwise

import pytest
import torch

from mmcnnmod.analysis import timing
from mmcnnmod.analysis.timing import interleaved, median_and_spread, peak_memory, ratio


def test_calls_take_turns_and_get_their_own_times(monkeypatch):
    now, seen, steps = 0.0, [], []
    monkeypatch.setattr(timing, 'Timer', partial(timing.Timer, timer=lambda: now))

    def call(name, seconds):
        nonlocal now
        seen.append(name)
        now += seconds

    calls = {'slow': lambda: call('slow', 0.02), 'fast': lambda: call('fast', 0.004)}
    times = interleaved(calls, rounds=4, block=0.02, advance=lambda: steps.append(1))
    assert times == {'slow': pytest.approx([20] * 4), 'fast': pytest.approx([4] * 4)}
    assert len(steps) == 8
    turns = sum(one != other for one, other in pairwise(seen))
    assert turns >= 4  # at least one per round
    # A measurement repeats the fast call until it takes as long as the slow one.
    assert seen.count('fast') > seen.count('slow')


def test_spread_is_the_interquartile_range():
    assert median_and_spread([1, 2, 3, 4, 100]) == (3, 2)
    assert median_and_spread([5]) == (5, 0)


def test_slowdown_of_both_calls_cancels_out_in_their_ratio():
    assert ratio([10, 20, 30, 40], [5, 10, 15, 20]) == (2, 0)
    assert ratio([3.0, 1.0, 2.0], [1.0, 1.0, 1.0]) == (2, 1)


def test_peak_memory_excludes_earlier_and_freed_memory():
    existing = torch.ones(1_000_000)

    def call():
        for _ in range(3):
            freed = existing * 2
            del freed
        return (existing * 2) + (existing * 3)

    assert 11.9 < peak_memory(call, 'cpu') < 12.5
