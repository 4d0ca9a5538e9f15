"""Hostile files are read or refused: no code runs, nothing crashes, memory is bounded."""

import io
import json
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mmcnnmod.checkpoints import read_checkpoint, safe_loading, unpickling
from mmcnnmod.errors import UserError

from ..utils.drawing import share
from ..utils.limited_reader import LimitedReader
from ..utils.payloads import Payload

# What the tests let a file build whatever its size: less than the reader, and so sooner.
ALLOWANCE = 16 << 20


def bound(file):
    """How many bytes reading a file may take, as docs/checkpoints.md has it."""
    return (32 << 20) + 2 * ALLOWANCE + 16 * len(file)


@pytest.fixture(scope='module')
def read(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpickling, 'ALLOWANCE', ALLOWANCE)
        reader = LimitedReader(tmp_path_factory.mktemp('hostile'))
        yield reader
        reader.end()


def check(read, file, suffix='.pth', expected=None):
    """Read a file, and see that it did no harm. Gives the text of the error."""
    outcome, text, done, peak = read(file, bound(file), suffix)
    assert not done
    assert outcome in ('read', 'refused'), text
    assert len(text.splitlines()) <= 1
    assert text.isprintable()
    assert 'MemoryError' not in text
    assert "can't allocate memory" not in text
    assert peak <= bound(file)
    assert outcome == (expected or outcome), text
    return text


# --- files with a pickle of our own ---


def zipped(pickled, data=bytes(16), compression=zipfile.ZIP_STORED, **records):
    """A file in torch's format, with 16 bytes for tensors."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        archive.writestr('a/data.pkl', pickled)
        for name, content in {'data/0': data, 'version': b'3\n', **records}.items():
            archive.writestr(f'a/{name}', content)
    return file.getvalue()


def older(pickled, count=4):
    """The same in torch's older format."""
    start = [0x1950A86A20F9469CFC6C, 1001, dict(little_endian=True)]
    head = b''.join(pickle.dumps(thing, 2) for thing in start)
    if b'Storage' not in pickled:
        return head + pickled + pickle.dumps([], 2)
    return head + pickled + pickle.dumps(['0'], 2) + struct.pack('<q', count) + bytes(16)


def number(n):
    return pickle.dumps(n, 2)[2:-1]


def text(s):
    return b'X' + struct.pack('<I', len(s.encode())) + s.encode()


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def several(*parts):
    return b'(' + b''.join(parts) + b't'


def call(function, *arguments):
    return function + several(*arguments) + b'R'


def storage(count=4, kind='FloatStorage', key='0', place='cpu'):
    parts = text('storage'), name('torch', kind), text(key), text(place), number(count)
    return several(*parts) + b'Q'


def tensor(sizes, strides, offset=0, data=None):
    return call(
        name('torch._utils', '_rebuild_tensor_v2'), data or storage(), number(offset),
        several(*map(number, sizes)), several(*map(number, strides)), b'\x89',
        call(name('collections', 'OrderedDict')),
    )  # fmt: skip


def array(shape, code, content):
    state = number(1), several(*map(number, shape)), dtype(code), b'\x89', content
    return (
        call(RECONSTRUCT, name('numpy', 'ndarray'), number(0), text('b')) + several(*state) + b'b'
    )


def dtype(code):
    return call(name('numpy', 'dtype'), text(code), b'\x89', b'\x88')


def latin1(content):
    return call(name('_codecs', 'encode'), text(content.decode('latin1')), text('latin1'))


def saved(thing):
    """What stands in the place of a thing; the file is a dict with it."""
    return b'\x80\x02}' + text('a') + thing + b's.'


RECONSTRUCT = name('numpy.core.multiarray', '_reconstruct')
HUGE = 1 << 40
TEXT = b'B' + struct.pack('<I', 1 << 20) + bytes(1 << 20)  # a megabyte
LIST = b'](' + b'K\x01' * 100_000 + b'e'


def doubled(start, step, times=60):
    """A thing that holds the one before it twice, and so on."""
    return start + step * times


PAIRS = doubled(b')', b'2\x86')  # t = (t, t), sixty times
LISTS = doubled(b']q\x01', b'0](h\x01h\x01eq\x01')
DEEP = b')' + b'\x85' * 300_000
# s = {(s, 0), (s, 1)}: two that are equal are compared in a time without end.
SETS = doubled(b'(\x91', b'q\x010(h\x01K\x00\x86h\x01K\x01\x86\x91', 24)
PICKLES = {
    # More than there is in the file.
    'a frame': (b'\x80\x04\x95' + struct.pack('<Q', HUGE) + b'.', 'refused'),
    'a text': (saved(b'\x8d' + struct.pack('<Q', HUGE) + b'a'), None),
    'bytes': (saved(b'\x8e' + struct.pack('<Q', HUGE) + b'a'), None),
    'a bytearray': (saved(b'\x96' + struct.pack('<Q', 1 << 34) + b'a'), 'refused'),
    'a number': (saved(b'\x8b' + struct.pack('<i', (1 << 31) - 1) + b'a'), None),
    'a number in digits': (saved(b'L' + b'9' * 100_000 + b'L\n'), 'refused'),
    'a place in the memo': (saved(b'Nr' + struct.pack('<I', (1 << 32) - 1)), 'read'),
    # A short program for something long.
    'lists in lists': (saved(LISTS), None),
    'lists in lists, called': (saved(LISTS + b')R'), 'refused'),
    'lists in lists as a dtype': (saved(call(name('numpy', 'dtype'), LISTS)), 'refused'),
    'lists in lists as a codec': (
        saved(call(name('_codecs', 'encode'), text('a'), LISTS)), 'refused',
    ),
    'lists in lists as an owner': (
        saved(call(name('builtins', 'getattr'), LISTS, text('a'))), 'refused',
    ),
    'a ConfigDict of shared lists': (
        saved(call(name('mmengine.config.config', 'ConfigDict'), b'}' + text('a') + LISTS + b's')),
        'read',
    ),
    'tuples as a key': (saved(b'}' + PAIRS + b'Ns'), 'refused'),
    'tuples as keys': (saved(b'}(' + PAIRS + b'Nu'), 'refused'),
    'tuples as keys of DICT': (saved(b'(' + PAIRS + b'Nd'), 'refused'),
    'tuples in a set': (saved(call(name('builtins', 'set'), b'](' + PAIRS + b'e')), 'refused'),
    'tuples in a set of protocol 4': (saved(b'\x8f(' + PAIRS + b'\x90'), 'refused'),
    'tuples in a frozenset': (saved(b'(' + PAIRS + b'\x91'), 'refused'),
    'tuples in pairs': (
        saved(call(name('collections', 'OrderedDict'), b'](' + several(PAIRS, b'N') + b'e')),
        'refused',
    ),
    'a tuple deep down as a key': (saved(b'}' + DEEP + b'Ns'), 'refused'),
    'lists deep down': (saved(b']' * 40_000 + b'a' * 39_999), 'read'),
    'a set, many times': (
        saved(name('builtins', 'set') + b'q\x01' + LIST + b'\x85q\x020' + b'h\x01h\x02R' * 20_000),
        'refused',
    ),
    'bytes, many times': (
        saved(
            name('_codecs', 'encode') + b'q\x01' + several(text('a' * (1 << 20)), text('latin1'))
            + b'q\x020' + b'h\x01h\x02R' * 20_000
        ),
        'refused',
    ),
    'frozensets in frozensets as keys': (saved(b'}(' + 2 * (SETS + b'N') + b'u'), 'refused'),
    'keys of one hash': (
        saved(b'}(' + b''.join(number(i * (2**61 - 1)) + b'N' for i in range(20_000)) + b'u'),
        'refused',
    ),
    'members of one hash': (
        saved(b'\x8f(' + b''.join(number(i * (2**61 - 1)) for i in range(20_000)) + b'\x90'),
        'refused',
    ),
    'a memo of one hash': (
        saved(b''.join(b'Np%d\n0' % (i * (2**61 - 1)) for i in range(20_000)) + b'N'), 'refused',
    ),
    'a view of memory': (saved(array([4], 'f4', latin1(bytes(16))) + b'\x98'), 'refused'),
    'an equal key, many times': (
        saved(TEXT + b'q\x010' + TEXT + b'q\x020}h\x01Ns' + b'h\x02Ns' * 100_000), 'refused',
    ),
    'histories': (
        saved(
            name('mmengine.logging.history_buffer', 'HistoryBuffer') + b'q\x010('
            + b'h\x01)R' * 1_000_000 + b't'
        ),
        'refused',
    ),
    'empty lists': (saved(b'(' + b']' * 4_000_000 + b't'), None),
    'empty sets': (saved(b'(' + b'\x8f' * 4_000_000 + b't'), None),
    'a memo': (saved(b'N' + b'\x94' * 4_000_000), None),
    'dicts': (saved(b'(' + b'}NNs' * 1_000_000 + b't'), None),
    'tensors': (
        saved(
            tensor([1], [1]).removesuffix(b'R') + b'q\x010'
            + name('torch._utils', '_rebuild_tensor_v2')
            + b'q\x020(' + b'h\x02h\x01R' * 800_000 + b't'
        ),
        None,
    ),
    'a text with a sign of four bytes': (saved(text('a' * 8_000_000 + chr(1 << 16))), 'read'),
    'arrays from nothing': (
        saved(call(RECONSTRUCT, name('numpy', 'ndarray'), several(number(HUGE)), text('b'))),
        'read',
    ),
    # Tensors and arrays beyond what is there.
    'a tensor': (saved(tensor([4], [1])), 'read'),
    'a tensor too long': (saved(tensor([5], [1])), 'refused'),
    'a tensor far too long': (saved(tensor([HUGE], [1])), 'refused'),
    'a stride too long': (saved(tensor([2], [4])), 'refused'),
    'an offset too far': (saved(tensor([1], [1], 4)), 'refused'),
    'a negative offset': (saved(tensor([1], [1], -1)), 'refused'),
    'a negative size': (saved(tensor([-1], [1])), 'refused'),
    'a negative stride': (saved(tensor([2], [-1], 1)), 'refused'),
    'sizes whose product overflows': (saved(tensor([1 << 32] * 2, [0, 0])), 'refused'),
    'a size that overflows': (saved(tensor([1 << 64], [0])), 'refused'),
    'strides that overflow': (saved(tensor([3, 3], [1 << 62, 1 << 62])), 'refused'),
    'more sizes than strides': (saved(tensor([2, 2], [1])), 'refused'),
    'many dimensions': (saved(tensor([1] * 100_000, [1] * 100_000)), 'refused'),
    'an expanded tensor': (saved(tensor([1000, 4], [0, 1])), 'read'),
    'a tensor expanded to terabytes': (saved(tensor([HUGE, 4], [0, 1])), 'refused'),
    'items of an expanded tensor': (saved(tensor([1000], [0]) + number(3) + b'Ns'), 'refused'),
    'more data than there are': (saved(tensor([9], [1], data=storage(9))), 'refused'),
    'far more data than there are': (saved(tensor([4], [1], data=storage(HUGE))), 'refused'),
    'less data than there are': (saved(tensor([1], [1], data=storage(1))), 'refused'),
    'a negative number of data': (saved(tensor([1], [1], data=storage(-4))), 'refused'),
    'other data': (saved(tensor([1], [1], data=storage(key='7'))), 'refused'),
    'data of two types': (
        saved(tensor([1], [1]) + b'0' + tensor([1], [1], data=storage(2, 'DoubleStorage'))),
        'refused',
    ),
    'a tensor on a number': (saved(tensor([1], [1], data=number(1))), 'refused'),
    'a quantized tensor': (saved(tensor([4], [1], data=storage(16, 'QInt8Storage'))), None),
    'code of a module': (
        saved(several(text('module'), b'N', text('file'), text('source')) + b'Q'), 'refused',
    ),
    'an array': (saved(array([2], 'f4', latin1(bytes(8)))), 'read'),
    'an array of the other byte order': (saved(array([2], '>f4', latin1(bytes(8)))), 'read'),
    'an array too long': (saved(array([3], 'f4', latin1(bytes(8)))), 'refused'),
    'an array far too long': (saved(array([HUGE], 'f4', latin1(bytes(8)))), 'refused'),
    'a shape that overflows': (saved(array([1 << 32, 1 << 32], 'f4', latin1(b''))), 'refused'),
    'a negative shape': (saved(array([-1, -2], 'f4', latin1(bytes(8)))), 'refused'),
    'an array of huge texts': (saved(array([0], 'S999999999', latin1(b''))), 'read'),
    'an array of nothing': (saved(array([HUGE], 'S0', latin1(b''))), 'refused'),
    'an array of objects': (saved(array([1], 'O', b'](Ne')), 'refused'),
    'an array of records': (saved(array([1], 'f4,f4', latin1(bytes(8)))), 'refused'),
    'an array in an array': (saved(array([0], '(999999,)f4', latin1(b''))), 'refused'),
    'a scalar from nothing': (
        saved(call(name('numpy.core.multiarray', 'scalar'), dtype('S999999999'))), 'refused',
    ),
    'a scalar too short': (
        saved(call(name('numpy.core.multiarray', 'scalar'), dtype('f8'), latin1(b'a'))), 'refused',
    ),
    # Odd things in the place of others.
    'a history of text': (
        saved(
            call(name('mmengine.logging.history_buffer', 'HistoryBuffer'))
            + pickle.dumps(dict(max_length=1, _log_history='a', _count_history=[]), 2)[2:-1] + b'b'
        ),
        'refused',
    ),
    'a history without numbers': (
        saved(call(name('mmengine.logging.history_buffer', 'HistoryBuffer')) + b'}b'), 'refused',
    ),
    'a name with signs of a terminal': (
        saved(b'\x8c\x06a\n\x1b[2J\x8c\x01b\x93'), 'refused',
    ),
    'a tensor as pairs': (
        saved(call(name('collections', 'OrderedDict'), tensor([100_000, 2], [0, 1]))), 'refused',
    ),
    'nothing': (b'', 'refused'),
    'an end without a thing': (b'.', 'refused'),
}  # fmt: skip


@pytest.mark.parametrize('form', [zipped, older])
@pytest.mark.parametrize(('pickled', 'expected'), PICKLES.values(), ids=PICKLES)
def test_pickles(read, pickled, expected, form):
    check(read, form(pickled), expected=expected)


def test_a_directory_without_end(read):
    """Many records of nothing; each takes more memory than it has bytes in the file."""
    entry = struct.pack('<IHHHHHHIIIHHHHHII', 0x02014B50, *[0] * 5, 0, 0, 0, 0, 1, *[0] * 6) + b'a'
    count = 100_000
    directory = entry * count
    end = struct.pack('<IHHHHIIH', 0x06054B50, 0, 0, 65535, 65535, len(directory), 4, 0)
    check(read, b'PK\x03\x04' + directory + end)


# --- files whose frame is odd ---


GOOD = saved(tensor([4], [1]))


def deflated(size):
    """A small file with a tensor that unpacks to so many bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        data = storage(size // 4)
        archive.writestr('a/data.pkl', saved(tensor([4], [1], data=data)))
        archive.writestr('a/version', '3')
        with archive.open('a/data/0', 'w') as record:
            for _ in range(size >> 20):
                record.write(bytes(1 << 20))
    return file.getvalue()


def with_sizes(file, old, new):
    """A zip whose directory claims other sizes of a record than it has."""
    start = file.index(b'PK\x01\x02')
    return file[:start] + file[start:].replace(struct.pack('<II', old, old), new)


def overlapping(records):
    """A zip with so many names for the same bytes."""
    file = zipped(GOOD, bytes(100_000))
    start, end = file.index(b'PK\x01\x02'), file.index(b'PK\x05\x06')
    entry = file.index(b'PK\x01\x02', file.index(b'PK\x01\x02', start + 1))
    one = file[entry : file.index(b'PK', entry + 4)]
    more = b''.join(one.replace(b'a/data/0', b'a/d%05d' % i) for i in range(records))
    size, count = end - start + len(more), 3 + records
    tail = struct.pack('<IHHHHIIH', 0x06054B50, 0, 0, count, count, size, start, 0)
    return file[:end] + more + tail


FILES = {
    'a zip': (lambda: zipped(GOOD), 'read', ''),
    'a bomb': (lambda: deflated(1 << 27), 'refused', 'it is compressed'),
    'all of it compressed': (
        lambda: zipped(GOOD, compression=zipfile.ZIP_LZMA), 'refused', 'it is compressed',
    ),
    'a record larger than the file': (
        lambda: with_sizes(zipped(GOOD), 16, struct.pack('<II', 1 << 31, 1 << 31)),
        'refused', 'sizes of its records',
    ),
    'a record longer than its end': (
        lambda: with_sizes(zipped(GOOD, b''), 0, struct.pack('<II', 400, 400)),
        'refused', 'cannot be read',
    ),
    'records over one another': (lambda: overlapping(1000), 'refused', 'sizes of its records'),
    'no pickle': (lambda: zipped(GOOD).replace(b'data.pkl', b'data.pkm'), 'refused', 'data.pkl'),
    'no data': (lambda: zipped(GOOD).replace(b'data/0', b'data/1'), 'refused', 'data/0'),
    'a third byte order': (lambda: zipped(GOOD, byteorder='middle'), 'refused', 'byte order'),
    'no byte order': (lambda: zipped(GOOD, byteorder=b'\xff'), 'refused', 'cannot be read'),
    'two letters of a zip': (lambda: b'PK', 'refused', 'cannot be read'),
    'half of a zip': (lambda: zipped(GOOD)[:-60], 'refused', 'cannot be read'),
    'an older one': (lambda: older(GOOD), 'read', ''),
    'an older one, too short': (lambda: older(GOOD)[:-1], 'refused', 'too short'),
    'an older one of another count': (lambda: older(GOOD, 1 << 40), 'refused', 'size'),
    'an older one without data': (
        lambda: older(GOOD).replace(b'\x80\x02]q\x00X\x01\x00\x00\x000', b'\x80\x02]q\x00X\x00'),
        'refused', 'cannot be read',
    ),
    'another number in front': (
        lambda: older(GOOD)[:5] + b'a' + older(GOOD)[6:], 'refused', 'its first bytes',
    ),
}  # fmt: skip


@pytest.mark.parametrize(('make', 'expected', 'words'), FILES.values(), ids=FILES)
def test_files(read, make, expected, words):
    assert words in check(read, make(), expected=expected)


@pytest.mark.parametrize('order', ['little', 'big'])
def test_byte_orders(tmp_path, order):
    data = struct.pack('<4f' if order == 'little' else '>4f', 1, 2, 3, 4)
    (tmp_path / 'a.pth').write_bytes(zipped(GOOD, data, byteorder=order))
    assert read_checkpoint(tmp_path / 'a.pth')['a'].tolist() == [1, 2, 3, 4]


def test_a_zip_in_a_zip_is_not_unpacked_to_the_disk(tmp_path, monkeypatch):
    """As torch.hub does it with what it has fetched."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    inner = tmp_path / 'inner.pth'
    torch.save(dict(a=torch.zeros(2)), inner)
    with zipfile.ZipFile(tmp_path / 'net.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.write(inner, 'unpacked.pth')
    with safe_loading(), pytest.raises(UserError, match='compressed'):
        torch.hub.load_state_dict_from_url((tmp_path / 'net.pth').as_uri(), progress=False)
    assert not list(tmp_path.rglob('unpacked.pth'))
    torch.hub.load_state_dict_from_url((tmp_path / 'net.pth').as_uri(), progress=False)
    assert list(tmp_path.rglob('unpacked.pth'))


# --- safetensors ---


def safetensors(header, data=bytes(16), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text) if length is None else length) + text + data


def entry(start=0, end=16, shape=(4,), dtype='F32'):
    return dict(dtype=dtype, shape=[*shape], data_offsets=[start, end])


SAFETENSORS = {
    'a good one': (safetensors(dict(a=entry())), 'read'),
    'tensors one over the other': (safetensors(dict(a=entry(), b=entry())), 'refused'),
    'tensors that overlap': (
        safetensors(dict(a=entry(0, 12, (3,)), b=entry(8, 16, (2,)))), 'refused',
    ),
    'a hole': (safetensors(dict(a=entry(8, 16, (2,)))), 'refused'),
    'an end before the start': (safetensors(dict(a=entry(16, 0))), 'refused'),
    'an end beyond the file': (safetensors(dict(a=entry(0, 1 << 40, (1 << 38,)))), 'refused'),
    'a shape too large': (safetensors(dict(a=entry(shape=(1 << 38,)))), 'refused'),
    'a shape that overflows': (safetensors(dict(a=entry(shape=(1 << 62, 4)))), 'refused'),
    'a shape that overflows to 16': (
        safetensors(dict(a=entry(shape=(1 << 32, (1 << 32) + 1, 0)))), 'refused',
    ),
    'a negative shape': (safetensors(dict(a=entry(shape=(-4, -1)))), 'refused'),
    'an unknown type': (safetensors(dict(a=entry(dtype='object'))), 'refused'),
    'a header without end': (safetensors(dict(a=entry()), length=(1 << 64) - 1), 'refused'),
    'a header beyond the file': (safetensors(dict(a=entry()), length=1 << 20), 'refused'),
    'a name twice': (
        safetensors(b'{"a": %b, "a": %b}' % ((json.dumps(entry()).encode(),) * 2)), None,
    ),
    'a header deep down': (safetensors(b'{"a":' * 100_000), 'refused'),
    'a text deep down': (
        safetensors(dict(a=entry(), __metadata__=dict(b='[' * 100_000))), 'refused',
    ),
    'many lists in a text': (
        safetensors(dict(a=entry(), __metadata__=dict(b='[' + '[],' * 200_000 + '[]]'))), None,
    ),
    'a number in a text': (
        safetensors(dict(a=entry(), __metadata__=dict(b='9' * 1_000_000))), 'read',
    ),
    'nothing': (b'', 'refused'),
}  # fmt: skip


@pytest.mark.parametrize(('file', 'expected'), SAFETENSORS.values(), ids=SAFETENSORS)
def test_safetensors(read, file, expected):
    pytest.importorskip('safetensors')
    check(read, file, '.safetensors', expected)


# --- files changed by chance ---


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 1)
        self.norm = torch.nn.BatchNorm2d(3)
        self.tied = self.conv


def like_mmengines():
    """The kinds of things that are in a checkpoint of mmengine's."""
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters())
    net.norm(net.conv(torch.zeros(2, 2, 2, 2))).sum().backward()
    optimizer.step()
    view = torch.arange(12.0).view(3, 4)
    return dict(
        meta=dict(
            epoch=1, cfg='a = 1', seed=None, time='now', classes=('road', 'sky'),
            palette=np.array([[1, 2, 3]], np.uint8), names=np.array(['a', 'bc']),
            more=ConfigDict(a=dict(b=[dict(c=1)])),
        ),
        state_dict=net.state_dict(),
        optimizer=optimizer.state_dict(),
        message_hub=dict(
            log_scalars=OrderedDict(loss=HistoryBuffer([0.5, 0.25], [1, 1])),
            runtime_info=dict(best=np.float64(0.5), iter=1 << 70),
        ),
        views=[view.t(), view[1:, ::2], view[:1].expand(5, 4), torch.nn.Parameter(view)],
    )  # fmt: skip


def saved_by_torch(zip_format, protocol):
    file = io.BytesIO()
    options = dict(_use_new_zipfile_serialization=zip_format, pickle_protocol=protocol)
    torch.save(like_mmengines(), file, **options)
    return file.getvalue()


def names(known):
    """How a pickle asks for one of these."""
    return st.sampled_from([*known]).map(lambda full: name(*full.rsplit('.', 1)))


ORIGINALS = [saved_by_torch(*options) for options in product((True, False), (2, 4))]
LENGTHS = [0, 1, 255, 1 << 15, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 64) - 1]
NUMBERS = st.sampled_from([-1, 0, 1, 2, 4, 16, 1 << 31, HUGE, 1 << 64]).map(number)
OPCODES = st.sampled_from([code.encode('latin1') for code in pickletools.code2op])
KNOWN = names(unpickling.KNOWN)
POSITIONS = st.floats(0, 1, exclude_max=True)
PIECES = st.one_of(
    st.binary(max_size=8),
    OPCODES,
    st.sampled_from(LENGTHS).map(lambda n: struct.pack('<Q', n)),
    st.sampled_from(LENGTHS).map(lambda n: struct.pack('<I', n & 0xFFFFFFFF)),
    KNOWN,
)
KINDS = st.sampled_from(['write', 'insert', 'remove', 'copy'])
CHANGES = st.lists(st.tuples(KINDS, POSITIONS, POSITIONS, PIECES), min_size=1, max_size=6)


def changed(content, changes):
    """A file after each of the changes."""
    for kind, position, other, piece in changes:
        start, source = int(position * len(content)), int(other * len(content))
        if kind == 'copy':
            piece = content[source : source + 1 + len(piece) * 4]
        removed = 0 if kind in ('insert', 'copy') else max(1, len(piece))
        added = b'' if kind == 'remove' else piece
        content = content[:start] + added + content[start + removed :]
    return content


def with_pickle(file, pickled):
    """A zip as torch's, with another pickle."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(made, 'w') as new:
        for entry in old.infolist():
            is_pickle = entry.filename.endswith('data.pkl')
            new.writestr(entry.filename, pickled if is_pickle else old.read(entry))
    return made.getvalue()


@share(0.5)
@given(st.sampled_from(ORIGINALS), CHANGES)
def test_changed_files(read, file, changes):
    check(read, changed(file, changes))


@share(0.5)
@given(st.sampled_from(ORIGINALS[:2]), CHANGES)
def test_changed_pickles(read, file, changes):
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        pickled = archive.read(next(n for n in archive.namelist() if n.endswith('data.pkl')))
    check(read, with_pickle(file, changed(pickled, changes)))


# Whole words of a pickle: what they make of one another gets further than bytes by chance.
WORDS = st.one_of(
    OPCODES,
    KNOWN,
    NUMBERS,
    st.sampled_from(['f4', '>i2', 'U3', 'S9', 'latin1', 'cpu', '0', '_metadata', 'a']).map(text),
    st.sampled_from([b'h\x00', b'h\x01', b'h\x02', b'q\x00', b'q\x01', b'q\x02', b'\x94', b'2']),
    st.sampled_from(
        [
            tensor([4], [1]), tensor([2, 2], [0, 1]), storage(), array([2], 'f4', latin1(bytes(8))),
            call(name('mmengine.logging.history_buffer', 'HistoryBuffer')), latin1(b'abcdefgh'),
            several(number(1), text('a')), several(), b'}', b']', b'\x8f', PAIRS[:20],
        ]
    ),
    st.sampled_from([b'(', b't', b'R', b'b', b's', b'u', b'a', b'e', b'Q', b'\x81', b'\x85']),
)  # fmt: skip


@share(0.5)
@given(st.lists(WORDS, max_size=30))
def test_words(read, words):
    check(read, zipped(saved(b''.join(words))))


def larger(things):
    """Programs for one thing, made of programs for others: no instruction lacks what it needs."""
    several_things = st.lists(things, max_size=7).map(lambda parts: several(*parts))
    pairs = st.lists(st.tuples(things, things), max_size=3)
    called = st.one_of(names(unpickling.CALLABLE), things)
    return st.one_of(
        several_things,
        several_things.map(lambda parts: parts[:-1] + b'l'),
        several_things.map(lambda parts: parts[:-1] + b'\x91'),
        several_things.map(lambda parts: parts + b'Q'),
        several_things.map(lambda parts: b'](' + parts[1:-1] + b'e'),
        pairs.map(lambda pairs: b'(' + b''.join(map(b''.join, pairs)) + b'd'),
        st.tuples(called, several_things, st.sampled_from([b'R', b'\x81'])).map(b''.join),
        st.tuples(things, things, st.sampled_from([b'b', b'a'])).map(b''.join),
        st.tuples(things, things, things, st.just(b's')).map(b''.join),
        st.tuples(things, st.just(b'q\x01')).map(b''.join),
    )


THINGS = st.recursive(
    st.one_of(
        KNOWN,
        NUMBERS,
        st.sampled_from(['f4', 'S9', 'latin1', 'cpu', '0', '_metadata', 'storage']).map(text),
        st.sampled_from(
            [
                b'N', b'\x88', b'G?\xf0' + bytes(6), b'h\x01', b']', b'}', b'\x8f', PAIRS[:20],
                tensor([4], [1]), tensor([2, 2], [0, 1]), storage(), dtype('f4'), dtype('>U2'),
                array([2], 'f4', latin1(bytes(8))), latin1(bytes(8)), latin1(bytes(4)),
                call(name('mmengine.logging.history_buffer', 'HistoryBuffer')),
            ]
        ),
    ),
    larger,
    max_leaves=25,
)  # fmt: skip


@share(0.5)
@given(THINGS)
def test_programs(read, thing):
    check(read, zipped(saved(thing)))


@share(0.5)
@given(CHANGES)
def test_changed_safetensors(read, changes):
    pytest.importorskip('safetensors')
    file = safetensors(dict(a=entry(0, 8, (2,)), b=entry(8, 16, (1, 2)), __metadata__=dict(c='1')))
    check(read, changed(file, changes), '.safetensors')


# --- what these tests rest on ---


def test_what_has_not_been_changed_is_read(read):
    for file in ORIGINALS:
        check(read, file, expected='read')


def test_the_reader_sees_what_is_done(read, tmp_path):
    file = io.BytesIO()
    torch.save(dict(a=Payload(tmp_path / 'mark')), file)
    outcome, _, done, _ = read(file.getvalue(), 1 << 30, trusted=True)
    assert outcome == 'read'
    assert (tmp_path / 'mark').exists()
    assert any('mark' in event for event in done)


def test_the_reader_sees_what_is_used(read):
    """torch's own reader unpacks what is small in the file."""
    file = deflated(1 << 27)
    outcome, message, _, peak = read(file, 1 << 30, trusted=True)
    assert outcome == 'read', message
    assert peak > bound(file)
