"""Reading checkpoints without running code that is hidden in them.

The newer mmengine tries torch's ``weights_only`` and, where that fails, reads the file without it;
the older one never tries. So a file that was downloaded may do anything when it is resumed from.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader

from ..errors import UserError, cause
from . import torch_files
from .unpickling import Refused

torch_load = torch.load
# Where the weights stand in a checkpoint: mmengine's name, then other trainers'.
WEIGHTS = ('state_dict', 'model')
MOST = 200  # letters of what is wrong with a file


def read_checkpoint(path: str | Path, map_location='cpu', trusted: bool = False) -> dict:
    """Read a checkpoint as mmengine does, without running code in it.

    Args:
        path (str | Path): A file (.pth in either of torch's formats, or .safetensors), or a URL
            with any scheme that mmengine knows: http(s), torchvision, open-mmlab, mmcls, s3 ...
        map_location: As for ``torch.load``. Defaults to 'cpu'.
        trusted (bool): Run the pickled code in it, if any. Defaults to False; within
            ``safe_loading(trusted=True)`` it is True.

    Returns:
        dict: All that is in it.

    Raises:
        UserError: If it is not there, is damaged, or asks for more than checkpoints need.
    """
    path = str(path)
    if '://' not in path and not Path(path).expanduser().is_file():
        raise UserError(f'checkpoint {path} is not there')
    try:
        with safe_loading(trusted or is_trusting()):
            content = CheckpointLoader.load_checkpoint(path, map_location, logger='silent')
        if not isinstance(content, dict):
            raise TypeError(f'it holds a {type(content).__name__}')
        return content
    except UserError:
        raise
    # Whatever a damaged file makes of the unpickler, it is the file that is at fault.
    except Exception as problem:
        what = f'{type(problem).__name__}: {cause(problem)[:MOST]}'
        remedy = 'it may be damaged, or no checkpoint of torch'
        if '://' in path:
            remedy = 'if it is out of reach, fetch it where there is a network and name the file'
        raise UserError(f'checkpoint {path} cannot be read ({what}); {remedy}') from problem


def read_state_dict(path: str | Path, trusted: bool = False) -> dict[str, torch.Tensor]:
    """Read the weights in a checkpoint.

    Args:
        path (str | Path): As for :func:`read_checkpoint`.
        trusted (bool): As for :func:`read_checkpoint`.

    Returns:
        dict[str, torch.Tensor]: Tensors by name, on the CPU; without the 'module.' that wrappers
        for several GPUs put before the names.

    Raises:
        UserError: As :func:`read_checkpoint`, and if there are no tensors in it.
    """
    return weights_of(read_checkpoint(path, trusted=trusted), path)


def weights_of(
    content: dict, path: str | Path, keys: Sequence[str] = WEIGHTS
) -> dict[str, torch.Tensor]:
    """The weights in what :func:`read_checkpoint` gave.

    Args:
        content (dict): They stand there under one of the ``keys``, or are all of it.
        path (str | Path): For the error.
        keys (Sequence[str]): Defaults to ('state_dict', 'model').

    Returns:
        dict[str, torch.Tensor]: As of :func:`read_state_dict`, with its error.
    """
    found = raw_weights_of(content, path, keys)
    return {name.removeprefix('module.'): tensor for name, tensor in found.items()}


def raw_weights_of(
    content: dict, path: str | Path, keys: Sequence[str] = WEIGHTS
) -> dict[str, torch.Tensor]:
    """As :func:`weights_of`, with the names as they stand there."""
    found = next((content[key] for key in keys if isinstance(content.get(key), dict)), content)
    tensors = {
        name: value
        for name, value in found.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise UserError(f'checkpoint {path} cannot be read (it holds no tensors)')
    return tensors


@contextmanager
def safe_loading(trusted: bool = False) -> Iterator[None]:
    """Within it, ``torch.load`` does not run what a file asks for, whoever calls it.

    All of mmengine's schemes, its resuming, and the toolboxes' own reading of weights end in
    ``torch.load``; so this is the one place that none of them passes by.

    Args:
        trusted (bool): Let files run code all the same. Defaults to False.
    """

    def load(f, map_location=None, *_, **__):  # named as torch's own
        return load_file(f, map_location, trusted)

    load.trusted = trusted
    before, torch.load = torch.load, load
    # torch.hub unpacks a zip of one file onto the disk, of any size, before it loads it.
    zipped = torch.hub._is_legacy_zip_format
    torch.hub._is_legacy_zip_format = zipped if trusted else lambda path: False
    try:
        yield
    finally:
        torch.load = before
        torch.hub._is_legacy_zip_format = zipped


def is_trusting() -> bool:
    """Whether a :func:`safe_loading` that trusts all files is in force."""
    return getattr(torch.load, 'trusted', False)


def load_file(file: str | Path | io.IOBase, map_location=None, trusted: bool = False) -> object:
    """What stands in for ``torch.load``.

    Args:
        file (str | Path | io.IOBase): A path or an open file.
        map_location: As for ``torch.load``. Defaults to None.
        trusted (bool): Run the pickled code in it. Defaults to False.
    """
    if isinstance(file, (str, os.PathLike)):
        if str(file).endswith('.safetensors'):
            return load_safetensors(file, map_location)
        with open(file, 'rb') as opened:
            return load_file(opened, map_location, trusted)
    if trusted:
        return torch_load(file, map_location, weights_only=False)
    name = getattr(file, 'name', 'from memory')
    try:
        return torch_files.read(file, map_location)
    except Refused as problem:
        raise UserError(
            f'checkpoint {name} is refused: {cause(problem)[:MOST]}, which {problem.danger}; if '
            'you trust where it comes from, use --trust-checkpoint (in Python: trusted=True)'
        ) from problem


def load_safetensors(file: str | Path, map_location=None) -> dict:
    """Read a .safetensors file, which holds tensors and texts only, as a checkpoint.

    Returns:
        dict: ``state_dict``, and under ``meta`` what publish_model.py has written as texts.
    """
    try:
        from safetensors import safe_open
    except ImportError as problem:
        raise UserError(
            f'checkpoint {file} needs the package safetensors: pip install safetensors'
        ) from problem
    device = map_location if isinstance(map_location, (str, torch.device)) else 'cpu'
    with safe_open(file, framework='pt', device=str(device)) as opened:
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        texts = opened.metadata() or {}
    return dict(state_dict=weights, meta={name: from_text(text) for name, text in texts.items()})


def from_text(text: str) -> object:
    """What was a text where JSON cannot be read, and otherwise what JSON says."""
    try:
        return json.loads(text)
    except ValueError:
        return text
