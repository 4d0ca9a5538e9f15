"""Errors as one line that names the cause and the remedy."""

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

CHANNELS = re.compile(r'to have (\d+) channels, but got (\d+) channels')
# numpy's error for a data set without images.
EMPTY = 'need at least one array to concatenate'
NO_IMAGES = (
    'the data set finds no images; check its ann_file, data_prefix, suffixes, classes and '
    'filter_cfg'
)
FEATURES = re.compile(r'mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)')
# How gloo and NCCL report that another process has ended.
LOST_PROCESS = re.compile(
    r'Connection (closed|reset) by peer|Broken pipe|ncclRemoteError|ncclSystemError|'
    r'Socket Timeout|collective operation timeout'
)


@contextmanager
def one_line_errors(debug: bool | None = None, config: str = '') -> Iterator[None]:
    """End the program with one line on stderr and exit code 1.

    Args:
        debug (bool, optional): Show the traceback before that line. Defaults to None, for programs
            without such an option: unexpected errors keep their traceback.
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
            text, place = message_of(problem), place_of(problem)
            line = f'{config and f"config {config}: "}{text.removesuffix(place)}{place}'
            line += '; --debug shows the traceback'
        print(f'error: {one_line(line)}', file=sys.stderr, flush=True)
        sys.exit(1)


@contextmanager
def building_from(what: str, cfg: Config | None = None) -> Iterator[None]:
    """Turn any error while ``what`` is built into a :class:`UserError`.

    Args:
        what (str): Such as 'config fcn.py'.
        cfg (Config, optional): Searched for the wrong key. Defaults to None.
    """
    try:
        yield
    except (Exception, SystemExit) as problem:  # a config is a program, which may call exit()
        key = find_key(problem, cfg) if cfg else ''
        text, file = message_of(problem), find_data_file(problem)
        if EMPTY in text:
            text = f'{file and f"{file}: "}{NO_IMAGES}'
        elif file and file not in text:
            text = f'{file} cannot be read ({text}); correct or replace it'
        raise UserError(f'{what}: {key}{text}') from problem


def find_key(problem: BaseException, cfg: Config) -> str:
    """The key of what could not be built, such as 'model.backbone: '; '' if it is not unique."""
    frames = [frame for frame, _ in traceback.walk_tb(problem.__traceback__)]
    nodes = [f.f_locals.get('cfg') for f in frames if f.f_code is build_from_cfg.__code__]
    with suppress(Exception):  # values that cannot be compared, such as arrays
        for built in reversed(nodes):  # innermost first; class defaults are not in the config
            paths = [
                path for key in cfg for path, node, _ in iter_dicts(cfg[key], key) if node == built
            ]
            if len(paths) == 1:
                return f'{paths[0]}: '
    return ''


def find_data_file(problem: Exception) -> str:
    """The annotation file that a data set was reading when an exception was raised, or ''."""
    places = [frame.f_locals for frame, _ in traceback.walk_tb(problem.__traceback__)]
    while places and not isinstance(places[0].get('self'), Dataset):
        del places[0]
    # The innermost function's variables first; images are not the cause.
    named = [
        value
        for variables in reversed(places)
        for name, value in variables.items()
        if not name.startswith('img')
    ]
    named += [getattr(variables.get('self'), 'ann_file', None) for variables in places]
    for value in named:
        if isinstance(value, str) and os.path.isfile(value):
            return value
    return ''


def explain(problem: Exception) -> str | None:
    """One line for an expected error, None for any other."""
    text = str(problem)
    if isinstance(problem, UserError):
        # From a data loading process it is a text that ends with the original line.
        return text.rsplit('UserError: ', 1)[-1].strip().splitlines()[0]
    for pattern, got, expected in ((CHANNELS, 2, 1), (FEATURES, 1, 2)):
        if match := pattern.search(text):
            layer = innermost_module(problem)
            remedy = (
                "set the backbone's in_channels to the channels of the images"
                if layer.startswith('backbone.')
                else 'set in_channels of this head or neck to the channels of the backbone '
                '(64 * 2**stage for depths below 50, 256 * 2**stage from 50)'
            )
            return (
                f'{layer} expects {match[expected]} input channels but gets {match[got]}: {remedy}'
            )
    if LOST_PROCESS.search(text):
        return (
            'another process of this run has ended or cannot be reached; see its output for the '
            'reason, and continue with --resume'
        )
    if isinstance(problem, ImportError):
        return message_of(problem)
    return None


def message_of(problem: BaseException) -> str:
    """The message in one line; with the type and place of the error if it is a single word."""
    # str(KeyError) has quotes around the message.
    raw = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
    text = one_line(raw)
    if ' ' in text:
        return text
    return f'{type(problem).__name__}{text and ": "}{text}{place_of(problem)}'


def place_of(problem: BaseException) -> str:
    """Where an exception was raised, such as ' in resnet.py, line 30, forward'."""
    frame = traceback.extract_tb(problem.__traceback__)[-1:]
    return ''.join(f' in {Path(f.filename).name}, line {f.lineno}, {f.name}' for f in frame)


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
