"""The states of all random number generators of a process, and a seed for a while."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def random_states() -> dict:
    """The states of Python's, numpy's and torch's generators, CUDA's included."""
    states = dict(
        python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state()
    )
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state_all()
    return states


def set_random_states(states: dict) -> bool:
    """Continue from what :func:`random_states` gave, in this process or an earlier one.

    Args:
        states (dict): Those of CUDA are set if there are as many devices as there were.

    Returns:
        bool: Whether all were set.

    Raises:
        Exception: Of many kinds, if these are not such states.
    """
    if not 0 <= states['numpy'][2] <= 624:  # numpy would read beyond them
        raise ValueError('the position in the random numbers of numpy is wrong')
    random.setstate(states['python'])
    np.random.set_state(states['numpy'])
    torch.set_rng_state(states['torch'].cpu())
    cuda = states.get('cuda', [])
    if len(cuda) != torch.cuda.device_count():
        return False
    if cuda:
        torch.cuda.set_rng_state_all([state.cpu() for state in cuda])
    return True


@contextmanager
def seeded(seed: Sequence[int]) -> Iterator[None]:
    """Within it, Python's, numpy's and torch's CPU generators start from a seed.

    Args:
        seed (Sequence[int]): Integers of which each counts; not negative.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    python, numpy, torch_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.default_generator.manual_seed(torch_seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
