"""Reporting errors in one line that names the cause and the remedy."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import build_from_cfg
from torch import nn
from torch.utils.data import Dataset

from ..errors import UserError, one_line
from ..swap import iter_dicts

# torch's errors for a wrong number of channels, and numpy's for a data set without images.
CHANNELS = re.compile(r'to have (?P<expected>\d+) channels, but got (?P<got>\d+) channels')
FEATURES = re.compile(
    r'mat1 and mat2 shapes cannot be multiplied \(\d+x(?P<got>\d+) and (?P<expected>\d+)x\d+\)'
)
EMPTY = 'need at least one array to concatenate'
NO_IMAGES = (
    'the data set finds no images; check its ann_file, data_prefix, suffixes, classes and '
    'filter_cfg'
)
# How gloo and NCCL report that another process has ended.
LOST_PROCESS = re.compile(
    r'Connection (closed|reset) by peer|Broken pipe|ncclRemoteError|ncclSystemError|'
    r'Socket Timeout|collective operation timeout'
)


@contextmanager
def one_line_errors(debug: bool | None = None, config: str = '') -> Iterator[None]:
    """If an error is raised, print it in one line on stderr and exit with code 1.

    Args:
        debug (bool, optional): Print the traceback before that line. Defaults to None, for programs
            without such an option: then an unexpected error is not caught.
        config (str): The config's file, named in unexpected errors. Defaults to ''.
    """
    try:
        yield
    except Exception as problem:
        line = explain(problem)
        if line is None and debug is None:
            raise
        if debug:
            traceback.print_exc()
        if line is None:
            prefix = f'config {config}: ' if config else ''
            line = f'{prefix}{message_of(problem, locate=True)}; --debug shows the traceback'
        print(f'error: {one_line(line)}', file=sys.stderr, flush=True)
        sys.exit(1)


@contextmanager
def building_from(what: str, cfg: Config | None = None) -> Iterator[None]:
    """Turn any error into a :class:`UserError`.

    Args:
        what (str): The start of its message, such as 'config fcn.py'.
        cfg (Config, optional): Searched for the wrong key. Defaults to None.
    """
    try:
        yield
    except (Exception, SystemExit) as problem:  # a config can call exit()
        key = find_key(problem, cfg) if cfg else ''
        text, file = message_of(problem), find_data_file(problem)
        if EMPTY in text:
            text = f'{file}: {NO_IMAGES}' if file else NO_IMAGES
        elif file and file not in text:
            text = f'{file} cannot be read ({text}); correct or replace it'
        raise UserError(f'{what}: {key}{text}') from problem


def find_key(problem: BaseException, cfg: Config) -> str:
    """The key whose value could not be built, such as 'model.backbone: '; '' if it is ambiguous."""
    frames = [frame for frame, _ in traceback.walk_tb(problem.__traceback__)]
    nodes = [f.f_locals.get('cfg') for f in frames if f.f_code is build_from_cfg.__code__]
    with suppress(Exception):  # some values cannot be compared, such as arrays
        for built in reversed(nodes):  # innermost first; it may not come from the config
            paths = [
                path for key in cfg for path, node, _ in iter_dicts(cfg[key], key) if node == built
            ]
            if len(paths) == 1:
                return f'{paths[0]}: '
    return ''


def find_data_file(problem: Exception) -> str:
    """The annotation file that a data set was reading when an exception was raised, or ''."""
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(problem.__traceback__)]
    while frames and not isinstance(frames[0].get('self'), Dataset):
        del frames[0]
    # The variables of the innermost function first; images are not the cause.
    values = [
        value
        for variables in reversed(frames)
        for name, value in variables.items()
        if not name.startswith('img')
    ]
    values += [getattr(variables.get('self'), 'ann_file', None) for variables in frames]
    for value in values:
        if isinstance(value, str) and os.path.isfile(value):
            return value
    return ''


def explain(problem: Exception) -> str | None:
    """One line for an expected error; None for an unexpected one."""
    text = str(problem)
    if isinstance(problem, UserError):
        # From a data loading process, the message is a traceback that ends with the line.
        return text.rsplit('UserError: ', 1)[-1].strip().splitlines()[0]
    if match := CHANNELS.search(text) or FEATURES.search(text):
        layer = innermost_module(problem)
        remedy = (
            "set the backbone's in_channels to the channels of the images"
            if layer.startswith('backbone.')
            else 'set in_channels of this head or neck to the channels of the backbone '
            '(64 * 2**stage for depths below 50, 256 * 2**stage from 50)'
        )
        return (
            f'{layer} expects {match["expected"]} input channels but gets {match["got"]}: {remedy}'
        )
    if LOST_PROCESS.search(text):
        return (
            'another process of this run has ended or cannot be reached; see its output for the '
            'reason, and continue with --resume'
        )
    if isinstance(problem, ImportError):
        return message_of(problem)
    return None


def message_of(problem: BaseException, locate: bool = False) -> str:
    """The message of an exception in one line.

    Args:
        problem (BaseException): The exception. If its message is a single word, its type and
            location are added.
        locate (bool): Add its location, such as ' in resnet.py, line 30, forward', in any case.
            Defaults to False.
    """
    # str() puts quotes around the message of a KeyError.
    raw = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
    text = one_line(raw)
    if ' ' not in text:
        text = f'{type(problem).__name__}: {text}' if text else type(problem).__name__
        locate = True
    if locate and (frames := traceback.extract_tb(problem.__traceback__)):
        text += f' in {Path(frames[-1].filename).name}, line {frames[-1].lineno}, {frames[-1].name}'
    return text


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
    found = [names[id(module)] for module in modules if names.get(id(module))]
    return found[-1] if found else type(modules[-1]).__name__
