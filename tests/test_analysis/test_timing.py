"""Timing in turns: what it measures, what it calls noise, how it sees memory."""

from functools import partial
from itertools import pairwise

import pytest
import torch

from mmcnnmod.analysis import timing
from mmcnnmod.analysis.timing import interleaved, median_and_spread, peak_memory, ratio


class Clock:
    """Goes on when told to."""

    now = 0.0

    def __call__(self):
        return self.now


def test_calls_take_turns_and_get_their_own_times(monkeypatch):
    seen, steps, clock = [], [], Clock()
    monkeypatch.setattr(timing, 'Timer', partial(timing.Timer, timer=clock))

    def call(name, seconds):
        seen.append(name)
        clock.now += seconds

    calls = {'slow': lambda: call('slow', 0.02), 'fast': lambda: call('fast', 0.004)}
    times = interleaved(calls, rounds=4, block=0.02, advance=lambda: steps.append(1))
    assert times == {'slow': pytest.approx([20] * 4), 'fast': pytest.approx([4] * 4)}
    assert len(steps) == 8
    changes = sum(one != other for one, other in pairwise(seen))
    assert changes >= 4  # each round, at least
    # A measurement of the fast call is as long as one of the slow.
    assert seen.count('fast') > seen.count('slow')


def test_spread_is_the_interquartile_range():
    assert median_and_spread([1, 2, 3, 4, 100]) == (3, 2)
    assert median_and_spread([5]) == (5, 0)


def test_a_drift_that_hits_both_is_not_in_their_ratio():
    assert ratio([10, 20, 30, 40], [5, 10, 15, 20]) == (2, 0)
    assert ratio([3.0, 1.0, 2.0], [1.0, 1.0, 1.0]) == (2, 1)


def test_peak_memory_is_what_is_held_at_a_time():
    kept = torch.ones(1_000_000)  # held before: not counted

    def call():
        for _ in range(3):
            one = kept * 2
            del one
        return (kept * 2) + (kept * 3)

    assert 11.9 < peak_memory(call, 'cpu') < 12.5
