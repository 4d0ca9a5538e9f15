"""Settings and strategies of the fuzz tests."""

import math
import os

import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from .blocks import TORCH

# Number of examples of all fuzz tests together. If it is set, each run draws other examples.
CHOSEN = os.environ.get('FUZZ_EXAMPLES')
TOTAL = int(CHOSEN or 300)

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
if TORCH >= (2, 4):  # earlier versions do not support float16 on CPUs
    DTYPES += (torch.float16,)
# The words that options of MoD blocks and backbones take.
CHOICES = {
    'position': ('first', 'last', 'original'),
    'fusion': ('add', 'replace'),
    'selection': ('topk', 'random'),
    'placement': ('alternate', 'every'),
}
HUGE = 10**30
LAYOUTS = ('contiguous', 'channels last', 'strided', 'expanded')
WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 0),
    st.sampled_from([-HUGE, HUGE, 0.5, 2.0, math.nan, math.inf, 1j]),
    st.sampled_from(['', '4', 'first ', 'two\nlines', '\N{SNOWMAN}', '\ud800', 'x' * 999, b'4']),
    st.sampled_from([[], [1], [1, [2]], (), {}, {'type': 'BN'}, {1, 2}, range(3), print, torch]),
    st.sampled_from([torch.ones(9, 9), torch.ones(2) > 0]),
)


def share(part):
    """The settings of a test that draws a part of the examples, from 0 to 1."""
    return settings(
        max_examples=max(1, round(TOTAL * part)),
        deadline=None,
        derandomize=not CHOSEN,
        print_blob=True,
        report_multiple_bugs=False,
        phases=set(Phase) - {Phase.explain},  # it takes long
        suppress_health_check=list(HealthCheck),
    )


def drawn(data, strategies, required=()):
    """Draw values for the required options and for some of the others."""
    return {
        name: data.draw(strategy, name)
        for name, strategy in strategies.items()
        if name in required or data.draw(st.booleans(), f'with {name}')
    }


def with_wrong_values(data, options, names):
    """The options, with wrong values for one or two of the names."""
    chosen = data.draw(st.lists(st.sampled_from(sorted(names)), min_size=1, max_size=2), 'wrong')
    return {**options, **{name: data.draw(WRONG, name) for name in chosen}}


def wrong_choices(options):
    """The names of the options in CHOICES whose value is not one of the words."""
    return [
        name
        for name, words in CHOICES.items()
        if name in options and not (isinstance(options[name], str) and options[name] in words)
    ]


def is_count(value, most):
    """Whether a value is an integer from 1 to ``most``."""
    return type(value) is int and 1 <= value <= most


def feature_map(shape, dtype, layout, seed):
    """A random feature map with one of the LAYOUTS in memory."""
    n, channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    if layout == 'strided':
        x = torch.randn(n, channels, height, 2 * width, generator=generator)[..., ::2]
    elif layout == 'expanded':
        x = torch.randn(n, channels, 1, width, generator=generator).expand(shape)
    else:
        x = torch.randn(shape, generator=generator)
    x = x.to(dtype)
    return x.to(memory_format=torch.channels_last) if layout == 'channels last' else x


def check_message(problem, *words):
    """The message is one line of less than 400 characters with at least one of the words."""
    message = str(problem)
    assert len(message.splitlines()) == 1, message
    assert len(message) < 400, message
    assert not words or any(word in message for word in words), message
