"""From an exception to one line that names the thing and the remedy."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config.utils import ConfigParsingError
from torch import nn

from ..errors import UserError

# What building from a config raises when the config is wrong: bad values, unknown types, ...
CONFIG_ERRORS = (
    ValueError,
    KeyError,
    TypeError,
    AssertionError,
    ImportError,
    OSError,
    ConfigParsingError,
)
CHANNELS = re.compile(r'to have (\d+) channels, but got (\d+) channels')
FEATURES = re.compile(r'mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)')


@contextmanager
def one_line_errors(debug: bool = False) -> Iterator[None]:
    """End the program with one line on stderr and exit code 1 where the user can help.

    Args:
        debug (bool): Show the traceback before that line. Defaults to False.
    """
    try:
        yield
    except Exception as problem:
        line = explain(problem)
        if line is None:
            raise  # not foreseen: the traceback is what helps
        if debug:
            traceback.print_exc()
        print(f'error: {line}', file=sys.stderr, flush=True)
        sys.exit(1)


@contextmanager
def building_from(what: str) -> Iterator[None]:
    """Turn what a wrong config raises while ``what`` is built into a :class:`UserError`."""
    try:
        yield
    except CONFIG_ERRORS as problem:
        raise UserError(f'{what}: {one_line(problem)}') from problem


def explain(problem: Exception) -> str | None:
    """One line for a foreseen error, None for any other."""
    text = str(problem)
    if isinstance(problem, UserError):
        # A data loading process hands its error on as a text that ends with the original line.
        return text.rsplit('UserError: ', 1)[-1].strip().splitlines()[0]
    for pattern, got, expected in ((CHANNELS, 2, 1), (FEATURES, 1, 2)):
        if match := pattern.search(text):
            layer = innermost_module(problem)
            remedy = (
                "set the backbone's in_channels to the channels of the images"
                if layer.startswith('backbone.')
                else 'set in_channels of this head or neck to what the backbone gives '
                '(64 * 2**stage for depths below 50, 256 * 2**stage from 50)'
            )
            return (
                f'{layer} expects {match[expected]} input channels and gets {match[got]}: {remedy}'
            )
    if isinstance(problem, ImportError):
        return one_line(problem)
    return None


def one_line(problem: Exception) -> str:
    """The message without line breaks; a KeyError without the quotes that Python adds."""
    text = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
    return ' '.join(str(text).split()) or type(problem).__name__


def innermost_module(problem: Exception) -> str:
    """The full name of the layer in which an exception was raised, such as 'decode_head.conv'."""
    modules = [
        frame.f_locals['self']
        for frame, _ in traceback.walk_tb(problem.__traceback__)
        if isinstance(frame.f_locals.get('self'), nn.Module)
    ]
    if not modules:
        return 'a layer'
    names = {id(module): name for name, module in modules[0].named_modules()}
    known = [names[id(module)] for module in modules if names.get(id(module))]
    return known[-1] if known else type(modules[-1]).__name__
