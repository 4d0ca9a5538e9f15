"""Saving, restoring and temporarily seeding all random number generators of a process."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def random_states() -> dict:
    """The states of the generators of Python, numpy, torch and, where available, CUDA."""
    states = dict(
        python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state()
    )
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state_all()
    return states


def set_random_states(states: dict) -> bool:
    """Restore what :func:`random_states` returned, in this process or an earlier one.

    Args:
        states (dict): The states. Those of CUDA are restored if the number of devices is the same.

    Returns:
        bool: Whether all were restored.

    Raises:
        Exception: Of any type, if ``states`` is malformed.
    """
    if not 0 <= states['numpy'][2] <= 624:  # numpy would read beyond its array
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
    """Seed the generators of Python, numpy and torch's CPU inside the context, and restore them.

    Args:
        seed (Sequence[int]): Integers that are not negative; each of them matters.
    """
    before = random.getstate(), np.random.get_state()
    python, numpy, torch_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(python)
            np.random.seed(numpy)
            torch.default_generator.manual_seed(torch_seed)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
