"""The two formats that ``torch.save`` writes, read within bounds.

``torch.load`` trusts what a file says about its own sizes. It unpacks what is compressed, reserves
as many bytes as a tensor is said to have, and before 2.10 reads past the end of a record that is
shorter than its tensor. Here a tensor has the bytes that are in the file, or the file is refused.
"""

from __future__ import annotations

import io
import struct
import sys
import zipfile

import torch
from torch.storage import TypedStorage

from .unpickling import Budget, Refused, TooLarge, Unpickler, expect

MAGIC = 0x1950A86A20F9469CFC6C  # the first thing in the older format


def read(file: io.IOBase, map_location=None) -> object:
    """Read what was saved.

    Args:
        file (io.IOBase): Open; the older format is read from where it stands, and no further than
            to the end of what was saved.
        map_location: As for ``torch.load``. Defaults to None.
    """
    start = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(start)
    is_zip = file.read(4) == b'PK\x03\x04'
    file.seek(start)
    place = torch.serialization._get_restore_location(map_location)
    return (read_zip if is_zip else read_older)(file, Budget(end - start), place)


def read_zip(file: io.IOBase, budget: Budget, place) -> object:
    """Read the format of torch 1.6 and later: a zip with a pickle and a record for each storage."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    top = entries[0].filename.split('/')[0]
    records = {entry.filename.removeprefix(f'{top}/'): entry for entry in entries}
    if 'constants.pkl' in records:
        raise Refused('it is in the TorchScript format')
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise TooLarge('it is compressed, which torch.save does not do')
    # Otherwise records lie one over the other.
    expect(sum(entry.file_size for entry in entries) <= budget.size, 'the sizes of its records')
    order = sys.byteorder
    if 'byteorder' in records:
        order = bytes(record(file, records['byteorder']).numpy()).decode()
        expect(order in ('little', 'big'), 'its byte order')
    storages = {}

    def storage(dtype, key, location, count) -> TypedStorage:
        if key not in storages:
            storages[key] = record(file, records[f'data/{key}']).untyped_storage()
            if order != sys.byteorder:
                storages[key].byteswap(dtype)
            storages[key] = typed(place(storages[key], location), dtype)
        expect_size(storages[key], dtype, count)
        return storages[key]

    pickled = io.BytesIO(record(file, records['data.pkl']).numpy())
    return Unpickler(pickled, budget, storage).load()


def record(file: io.IOBase, entry: zipfile.ZipInfo) -> torch.Tensor:
    """The bytes of a record. Its checksum is not looked at, as torch can save without one."""
    file.seek(entry.header_offset + 26)
    lengths = struct.unpack('<HH', file.read(4))  # of the name and of what else is in the header
    file.seek(sum(lengths), io.SEEK_CUR)
    data = torch.empty(entry.file_size, dtype=torch.uint8)
    fill(data, file)
    return data


def read_older(file: io.IOBase, budget: Budget, place) -> object:
    """Read the format of torch before 1.6: pickles, and then the storages one after the other."""
    start = file.tell()
    file.seek(start + 257)
    if file.read(5) == b'ustar':
        raise Refused('it is in the tar format of torch 0.1')
    file.seek(start)
    magic, _, _ = (Unpickler(file, budget).load() for _ in range(3))
    expect(type(magic) is int and magic == MAGIC, 'its first bytes')
    storages, buffers, reserved = {}, {}, 0

    def storage(dtype, key, location, count, view=None) -> TypedStorage:
        nonlocal reserved
        expect(view is None, 'a storage: it is part of another, as before torch 0.4')
        if key not in storages:
            reserved += count * dtype.itemsize
            expect(reserved <= budget.size, 'the sizes of its tensors')
            # Its data come later; until then it is there for the tensors to refer to.
            buffers[key] = torch.empty(count * dtype.itemsize, dtype=torch.uint8)
            storages[key] = typed(place(buffers[key].untyped_storage(), location), dtype)
        expect_size(storages[key], dtype, count)
        return storages[key]

    content = Unpickler(file, budget, storage).load()
    keys = Unpickler(file, budget).load()
    expect(type(keys) is list and sorted(keys) == sorted(storages), 'the list of its tensors')
    for key in keys:
        count = struct.unpack('<q', file.read(8))[0]
        expect_size(storages[key], storages[key].dtype, count)
        fill(buffers[key], file)
        if sys.byteorder == 'big':  # it is always little in the file
            buffers[key].untyped_storage().byteswap(storages[key].dtype)
        if storages[key]._untyped_storage.device.type != 'cpu':
            storages[key]._untyped_storage.copy_(buffers[key].untyped_storage())
    return content


def fill(data: torch.Tensor, file: io.IOBase) -> None:
    """Read as many bytes as there is room for."""
    expect(file.readinto(data.numpy()) == len(data), 'its end: it is too short')


def typed(storage: torch.UntypedStorage, dtype: torch.dtype) -> TypedStorage:
    """What tensors are made from."""
    return TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def expect_size(storage: TypedStorage, dtype: torch.dtype, count: int) -> None:
    """Raise an error if a storage is not of the size that a pickle says it has."""
    size = storage._untyped_storage.nbytes()
    expect(storage.dtype == dtype and size == count * dtype.itemsize, "the size of a tensor's data")
