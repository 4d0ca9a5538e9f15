"""Save, restore and temporarily seed all random number generators of a process."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def random_states() -> dict:
    """The states of the generators of Python, numpy, torch and, if available, CUDA."""
    states = dict(
        python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state()
    )
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state_all()
    return states


def set_random_states(states: dict) -> bool:
    """Restore the states that :func:`random_states` returned, perhaps in another process.

    Args:
        states (dict): The states. Those of CUDA need the same number of devices.

    Returns:
        bool: Whether all states were restored.

    Raises:
        Exception: Of any type, if ``states`` is malformed.
    """
    if not 0 <= states['numpy'][2] <= 624:  # numpy does not check it and reads beyond its array
        raise ValueError('the random state of numpy has an invalid position')
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
    """Seed the generators of Python, numpy and torch's CPU, and restore them after the context.

    Args:
        seed (Sequence[int]): Non-negative integers; all of them are used.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    python_seed, numpy_seed, torch_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(python_seed)
            np.random.seed(numpy_seed)
            torch.default_generator.manual_seed(torch_seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
