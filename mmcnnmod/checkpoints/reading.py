"""Read checkpoints with limits and without running code that is hidden in them.

mmengine loads checkpoints with ``torch.load``, which runs any code in a file unless
``weights_only`` is set. Even then it trusts the sizes that a file states: it unpacks compressed
records, allocates the stated size of a tensor, and before torch 2.10 reads past the end of records
that are too short. This module reads both formats of ``torch.save`` itself, and raises an error if
the data of a tensor are not in the file.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader
from torch.storage import TypedStorage

from ..errors import UserError, cause
from .unpickling import Budget, Refused, TooLarge, Unpickler, expect

torch_load = torch.load
# The keys of the weights in checkpoints of mmengine and of other trainers.
WEIGHTS = ('state_dict', 'model')
MAX_REASON = 200  # how many characters of the reason an error shows
MAGIC = 0x1950A86A20F9469CFC6C  # the first number in files of torch's older format


def read_checkpoint(path: str | Path, map_location='cpu', trusted: bool = False) -> dict:
    """Read a checkpoint without running code in it.

    Args:
        path (str | Path): A file (.pth in either of torch's formats, or .safetensors), or a URL
            with any scheme of mmengine: http(s), torchvision, open-mmlab, mmcls, s3 ...
        map_location: As for ``torch.load``. Defaults to 'cpu'.
        trusted (bool): Run the pickled code in it, if any. Defaults to False, or to True within
            ``safe_loading(trusted=True)``.

    Returns:
        dict: The whole content.

    Raises:
        UserError: If the file does not exist, is damaged, or contains code or data that
            checkpoints do not have.
    """
    path = str(path)
    if '://' not in path and not Path(path).expanduser().is_file():
        raise UserError(f'checkpoint {path} does not exist')
    try:
        with safe_loading(trusted or is_trusting()):
            content = CheckpointLoader.load_checkpoint(path, map_location, logger='silent')
        if not isinstance(content, dict):
            raise TypeError(f'it holds a {type(content).__name__}')
        return content
    except UserError:
        raise
    except Exception as problem:  # a damaged file can raise anything in the unpickler
        what = f'{type(problem).__name__}: {cause(problem)[:MAX_REASON]}'
        remedy = 'it may be damaged, or not a checkpoint of torch'
        if '://' in path:
            remedy = 'if there is no network, download it elsewhere and use the file'
        raise UserError(f'checkpoint {path} cannot be read ({what}); {remedy}') from problem


def read_state_dict(path: str | Path, trusted: bool = False) -> dict[str, torch.Tensor]:
    """Read the weights in a checkpoint.

    Args:
        path (str | Path): As for :func:`read_checkpoint`.
        trusted (bool): As for :func:`read_checkpoint`.

    Returns:
        dict[str, torch.Tensor]: Tensors by name, on the CPU. The prefix 'module.', which wrappers
        for several GPUs add, is removed.

    Raises:
        UserError: See :func:`read_checkpoint`; also if it holds no tensors.
    """
    return weights_of(read_checkpoint(path, trusted=trusted), path)


def weights_of(
    content: dict, path: str | Path, keys: Sequence[str] = WEIGHTS
) -> dict[str, torch.Tensor]:
    """Get the weights from the content of a checkpoint.

    Args:
        content (dict): The result of :func:`read_checkpoint`. The weights are under one of
            ``keys``, or they are the whole content.
        path (str | Path): The path that the error names.
        keys (Sequence[str]): Defaults to ('state_dict', 'model').

    Returns:
        dict[str, torch.Tensor]: See :func:`read_state_dict`.

    Raises:
        UserError: If it holds no tensors.
    """
    weights = raw_weights_of(content, path, keys)
    return {name.removeprefix('module.'): tensor for name, tensor in weights.items()}


def raw_weights_of(
    content: dict, path: str | Path, keys: Sequence[str] = WEIGHTS
) -> dict[str, torch.Tensor]:
    """Like :func:`weights_of`, but with unchanged names."""
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
    """Within this context, ``torch.load`` does not run code in files, whoever calls it.

    mmengine (with all its schemes, and on resuming) and the toolboxes call ``torch.load``, so this
    one replacement covers all of them.

    Args:
        trusted (bool): Allow files to run code. Defaults to False.
    """

    def load(f, map_location=None, *_, **__):  # the names of torch.load
        return load_file(f, map_location, trusted)

    load.trusted = trusted
    before = torch.load, torch.hub._is_legacy_zip_format
    torch.load = load
    if not trusted:
        # torch.hub would extract a zip of one file to the disk, whatever its size, to load it.
        torch.hub._is_legacy_zip_format = lambda path: False
    try:
        yield
    finally:
        torch.load, torch.hub._is_legacy_zip_format = before


def is_trusting() -> bool:
    """Whether the caller runs within ``safe_loading(trusted=True)``."""
    return getattr(torch.load, 'trusted', False)


def load_file(file: str | Path | io.IOBase, map_location=None, trusted: bool = False) -> object:
    """Replacement of ``torch.load``.

    Args:
        file (str | Path | io.IOBase): A path or an open file. In the older format, one content is
            read from the current position, as by ``torch.load``.
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
    start = file.tell()
    size = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    load = load_zip if file.read(4) == b'PK\x03\x04' else load_older
    file.seek(start)
    try:
        return load(file, Budget(size), torch.serialization._get_restore_location(map_location))
    except Refused as problem:
        name = getattr(file, 'name', 'from memory')
        raise UserError(
            f'checkpoint {name} is refused: {cause(problem)[:MAX_REASON]}, which {problem.danger}; '
            'if you trust its source, use --trust-checkpoint (in Python: trusted=True)'
        ) from problem
    except pickle.UnpicklingError as problem:
        # At this type, mmengine warns that it reads the file unsafely, and reads it again.
        raise ValueError(cause(problem)) from problem


def load_safetensors(file: str | Path, map_location=None) -> dict:
    """Read a .safetensors file, which contains only tensors and texts.

    Returns:
        dict: ``state_dict``, and ``meta`` with the texts. Texts in JSON, which publish_model.py
        writes, are decoded.
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
        meta = opened.metadata() or {}
    for name, text in meta.items():
        try:
            meta[name] = json.loads(text)
        except ValueError:
            continue
    return dict(state_dict=weights, meta=meta)


def load_zip(file: io.IOBase, budget: Budget, restore: Callable) -> object:
    """Read the format of torch 1.6 and later: a zip of a pickle and a record for each storage.

    Args:
        file (io.IOBase): The open file.
        budget (Budget): Limits what is built.
        restore (Callable): Moves a storage to its device, according to ``map_location``.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    top = entries[0].filename.split('/')[0]
    records = {entry.filename.removeprefix(f'{top}/'): entry for entry in entries}
    if 'constants.pkl' in records:
        raise Refused('it is in the TorchScript format')
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise TooLarge('it is compressed, which torch.save does not do')
    # Otherwise records overlap.
    expect(sum(entry.file_size for entry in entries) <= budget.size, 'the sizes of its records')
    order = sys.byteorder
    if 'byteorder' in records:
        order = bytes(read_record(file, records['byteorder']).numpy()).decode()
        expect(order in ('little', 'big'), 'its byte order')
    storages = {}

    def storage(dtype, key, location, count) -> TypedStorage:
        if key not in storages:
            untyped = read_record(file, records[f'data/{key}']).untyped_storage()
            if order != sys.byteorder:
                untyped.byteswap(dtype)
            storages[key] = typed(restore(untyped, location), dtype)
        expect_size(storages[key], dtype, count)
        return storages[key]

    pickled = io.BytesIO(read_record(file, records['data.pkl']).numpy())
    return Unpickler(pickled, budget, storage).load()


def read_record(file: io.IOBase, entry: zipfile.ZipInfo) -> torch.Tensor:
    """The bytes of a record. The checksum is ignored, because torch can save without one."""
    file.seek(entry.header_offset + 26)
    lengths = struct.unpack('<HH', file.read(4))  # of the name and of the extra field
    file.seek(sum(lengths), io.SEEK_CUR)
    data = torch.empty(entry.file_size, dtype=torch.uint8)
    fill(data, file)
    return data


def load_older(file: io.IOBase, budget: Budget, restore: Callable) -> object:
    """Read the format before torch 1.6: pickles, then the storages. See :func:`load_zip`."""
    start = file.tell()
    file.seek(start + 257)
    if file.read(5) == b'ustar':
        raise Refused('it is in the tar format of torch 0.1')
    file.seek(start)
    magic, _, _ = (Unpickler(file, budget).load() for _ in range(3))
    expect(type(magic) is int and magic == MAGIC, 'its first bytes')
    storages, buffers, allocated = {}, {}, 0

    def storage(dtype, key, location, count, view=None) -> TypedStorage:
        nonlocal allocated
        expect(view is None, 'a storage: it is part of another, as before torch 0.4')
        if key not in storages:
            allocated += count * dtype.itemsize
            expect(allocated <= budget.size, 'the sizes of its tensors')
            # Tensors refer to it from now on. It is filled below.
            buffers[key] = torch.empty(count * dtype.itemsize, dtype=torch.uint8)
            storages[key] = typed(restore(buffers[key].untyped_storage(), location), dtype)
        expect_size(storages[key], dtype, count)
        return storages[key]

    content = Unpickler(file, budget, storage).load()
    keys = Unpickler(file, budget).load()
    expect(type(keys) is list and sorted(keys) == sorted(storages), 'the list of its tensors')
    for key in keys:
        count = struct.unpack('<q', file.read(8))[0]
        expect_size(storages[key], storages[key].dtype, count)
        fill(buffers[key], file)
        if sys.byteorder == 'big':  # these files are always little-endian
            buffers[key].untyped_storage().byteswap(storages[key].dtype)
        if storages[key]._untyped_storage.device.type != 'cpu':
            storages[key]._untyped_storage.copy_(buffers[key].untyped_storage())
    return content


def fill(data: torch.Tensor, file: io.IOBase) -> None:
    """Fill a tensor with the next bytes of a file."""
    expect(file.readinto(data.numpy()) == len(data), 'its end: it is too short')


def typed(storage: torch.UntypedStorage, dtype: torch.dtype) -> TypedStorage:
    """A storage with a dtype, from which tensors are made."""
    return TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def expect_size(storage: TypedStorage, dtype: torch.dtype, count: int) -> None:
    """Raise an error if a storage does not have the dtype and size that the pickle states."""
    size = storage._untyped_storage.nbytes()
    expect(storage.dtype == dtype and size == count * dtype.itemsize, "the size of a tensor's data")
