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

# How many bytes a file of any size may build in these tests. It is smaller than the default, so
# that fewer are needed to exceed it.
ALLOWANCE = 16 << 20


def max_memory(file):
    """How many bytes reading a file may take according to docs/checkpoints.md."""
    return (32 << 20) + 2 * ALLOWANCE + 16 * len(file)


@pytest.fixture(scope='module')
def reader(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpickling, 'ALLOWANCE', ALLOWANCE)
        reader = LimitedReader(tmp_path_factory.mktemp('hostile'))
        yield reader
        reader.stop()


def assert_harmless(reader, file, suffix='.pth', expected=None):
    """Read a file without harm, expecting 'read', 'refused' or either; returns the error."""
    outcome, message, events, peak = reader(file, max_memory(file), suffix)
    assert not events
    assert outcome in ('read', 'refused'), message
    assert len(message.splitlines()) <= 1
    assert message.isprintable()
    assert 'MemoryError' not in message
    assert "can't allocate memory" not in message
    assert peak <= max_memory(file)
    assert outcome == (expected or outcome), message
    return message


# --- building files and pickles ---


def zipped(pickled, data=bytes(16), compression=zipfile.ZIP_STORED, **records):
    """A file in torch's format with a pickle and the bytes of a tensor."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        archive.writestr('a/data.pkl', pickled)
        for record, content in {'data/0': data, 'version': b'3\n', **records}.items():
            archive.writestr(f'a/{record}', content)
    return file.getvalue()


def older(pickled, count=4):
    """A file in torch's older format with a pickle and the bytes of a tensor."""
    start = [0x1950A86A20F9469CFC6C, 1001, dict(little_endian=True)]
    head = b''.join(pickle.dumps(value, 2) for value in start)
    if b'Storage' not in pickled:
        return head + pickled + pickle.dumps([], 2)
    return head + pickled + pickle.dumps(['0'], 2) + struct.pack('<q', count) + bytes(16)


def in_dict(value):
    """A pickle of a dict, given the instructions that build its only value."""
    return b'\x80\x02}' + text('a') + value + b's.'


def number(n):
    return pickle.dumps(n, 2)[2:-1]


def text(s):
    return b'X' + struct.pack('<I', len(s.encode())) + s.encode()


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def make_tuple(*items):
    return b'(' + b''.join(items) + b't'


def call(function, *arguments):
    return function + make_tuple(*arguments) + b'R'


def repeat_call(function, arguments, times):
    """A tuple of the results of calls with the same arguments."""
    return function + b'q\x010' + arguments + b'q\x020(' + b'h\x01h\x02R' * times + b't'


def storage(count=4, kind='FloatStorage', key='0'):
    parts = text('storage'), name('torch', kind), text(key), text('cpu'), number(count)
    return make_tuple(*parts) + b'Q'


def tensor_arguments(sizes, strides, offset=0, data=None):
    return make_tuple(
        data or storage(), number(offset), make_tuple(*map(number, sizes)),
        make_tuple(*map(number, strides)), b'\x89', call(ORDERED_DICT),
    )  # fmt: skip


def tensor(*arguments, **options):
    return REBUILD_TENSOR + tensor_arguments(*arguments, **options) + b'R'


def array(shape, code, content):
    state = number(1), make_tuple(*map(number, shape)), dtype(code), b'\x89', content
    return call(RECONSTRUCT, NDARRAY, number(0), text('b')) + make_tuple(*state) + b'b'


def dtype(code):
    return call(DTYPE, text(code), b'\x89', b'\x88')


def latin1(content):
    return call(ENCODE, text(content.decode('latin1')), text('latin1'))


def nested(start, step, times=60):
    """A value that contains the previous one twice, and so on."""
    return start + step * times


CONFIG_DICT = name('mmengine.config.config', 'ConfigDict')
DTYPE = name('numpy', 'dtype')
ENCODE = name('_codecs', 'encode')
HISTORY = name('mmengine.logging.history_buffer', 'HistoryBuffer')
NDARRAY = name('numpy', 'ndarray')
ORDERED_DICT = name('collections', 'OrderedDict')
REBUILD_TENSOR = name('torch._utils', '_rebuild_tensor_v2')
RECONSTRUCT = name('numpy.core.multiarray', '_reconstruct')
SCALAR = name('numpy.core.multiarray', 'scalar')
SET = name('builtins', 'set')

HUGE = 1 << 40
PAIRS = nested(b')', b'2\x86')  # t = (t, t), sixty times
LISTS = nested(b']q\x01', b'0](h\x01h\x01eq\x01')
DEEP = b')' + b'\x85' * 300_000
# s = {(s, 0), (s, 1)}: comparing two equal ones takes forever.
SETS = nested(b'(\x91', b'q\x010(h\x01K\x00\x86h\x01K\x01\x86\x91', 24)
# Different numbers with the same hash.
COLLISIONS = [number(i * (2**61 - 1)) for i in range(20_000)]
MILLION_BYTES = text('a' * (1 << 20))

# --- pickles: the instructions for a value in the file's dict ---

READ = {
    'a huge index in the memo': b'Nr' + struct.pack('<I', (1 << 32) - 1),
    'a ConfigDict of shared lists': call(CONFIG_DICT, b'}' + text('a') + LISTS + b's'),
    'deeply nested lists': b']' * 40_000 + b'a' * 39_999,
    'a text of four bytes per character': text('a' * 8_000_000 + chr(1 << 16)),
    'an expanded tensor': tensor([1000, 4], [0, 1]),
    'a huge shape before the content': call(
        RECONSTRUCT, NDARRAY, make_tuple(number(HUGE)), text('b')
    ),
    'an empty array of huge texts': array([0], 'S999999999', latin1(b'')),
}
READ_OR_REFUSED = {
    'a text longer than the file': b'\x8d' + struct.pack('<Q', HUGE) + b'a',
    'lists in lists': LISTS,
    'many sets': b'(' + b'\x8f' * 4_000_000 + b't',
    'many dicts': b'(' + b'}NNs' * 1_000_000 + b't',
    'a large memo': b'N' + b'\x94' * 4_000_000,
    'many tensors': repeat_call(REBUILD_TENSOR, tensor_arguments([1], [1]), 800_000),
    'a quantized tensor': tensor([4], [1], data=storage(16, 'QInt8Storage')),
}
REFUSED = {
    'a bytearray longer than the file': b'\x96' + struct.pack('<Q', 1 << 34) + b'a',
    'a number of many digits': b'L' + b'9' * 100_000 + b'L\n',
    # A short program that takes long or builds much.
    'a call of lists in lists': LISTS + b')R',
    'lists in lists as an argument': call(DTYPE, LISTS),
    'tuples in tuples as a key': b'}(' + PAIRS + b'Nu',
    'tuples in tuples in a set': b'\x8f(' + PAIRS + b'\x90',
    'tuples in tuples in a frozenset': b'(' + PAIRS + b'\x91',
    'frozensets in frozensets as keys': b'}(' + 2 * (SETS + b'N') + b'u',
    'deeply nested tuples as a key': b'}' + DEEP + b'Ns',
    'a set many times': repeat_call(SET, b'](' + b'K\x01' * 100_000 + b'e\x85', 20_000),
    'bytes many times': repeat_call(ENCODE, make_tuple(MILLION_BYTES, text('latin1')), 20_000),
    'many histories': repeat_call(HISTORY, b')', 1_000_000),
    'keys with the same hash': b'}(' + b''.join(key + b'N' for key in COLLISIONS) + b'u',
    'members with the same hash': b'\x8f(' + b''.join(COLLISIONS) + b'\x90',
    'members of a list with the same hash': call(SET, b'](' + b''.join(COLLISIONS) + b'e'),
    'keys of pairs with the same hash': call(
        ORDERED_DICT, b'](' + b''.join(make_tuple(key, b'N') for key in COLLISIONS) + b'e'
    ),
    'indices of the memo with the same hash': (
        b''.join(b'Np%d\n0' % (i * (2**61 - 1)) for i in range(20_000)) + b'N'
    ),
    # Tensors and arrays that are larger than their data, and wrong data.
    'a tensor too long': tensor([5], [1]),
    'a stride too long': tensor([2], [4]),
    'an offset too large': tensor([1], [1], 4),
    'a negative offset': tensor([1], [1], -1),
    'a negative size': tensor([-1], [1]),
    'a negative stride': tensor([2], [-1], 1),
    'a size that overflows': tensor([1 << 64], [0]),
    'more sizes than strides': tensor([2, 2], [1]),
    'too many dimensions': tensor([1] * 100_000, [1] * 100_000),
    'a tensor expanded to terabytes': tensor([HUGE, 4], [0, 1]),
    'items of an expanded tensor': tensor([1000], [0]) + number(3) + b'Ns',
    'an expanded tensor as pairs': call(ORDERED_DICT, tensor([100_000, 2], [0, 1])),
    'more data than there are': tensor([4], [1], data=storage(HUGE)),
    'less data than there are': tensor([1], [1], data=storage(1)),
    'a negative number of data': tensor([1], [1], data=storage(-4)),
    'missing data': tensor([1], [1], data=storage(key='7')),
    'data of two types': (
        tensor([1], [1]) + b'0' + tensor([1], [1], data=storage(2, 'DoubleStorage'))
    ),
    'a tensor of a number': tensor([1], [1], data=number(1)),
    'source code of a module': make_tuple(text('module'), b'N', text('file'), text('code')) + b'Q',
    'an array too long': array([3], 'f4', latin1(bytes(8))),
    'a negative shape': array([-1, -2], 'f4', latin1(bytes(8))),
    'a huge array of items without size': array([HUGE], 'S0', latin1(b'')),
    'an array type with a shape': array([0], '(999999,)f4', latin1(b'')),
    'a view of the memory of an array': array([4], 'f4', latin1(bytes(16))) + b'\x98',
    'a scalar without content': call(SCALAR, dtype('S999999999')),
    'a scalar too short': call(SCALAR, dtype('f8'), latin1(b'a')),
    'a history of text': call(HISTORY) + pickle.dumps(
        dict(max_length=1, _log_history='a', _count_history=[]), 2
    )[2:-1] + b'b',
    'a history without numbers': call(HISTORY) + b'}b',
    'a name with control characters': b'\x8c\x06a\n\x1b[2J\x8c\x01b\x93',
}  # fmt: skip
PICKLES = {
    **{key: (in_dict(value), 'read') for key, value in READ.items()},
    **{key: (in_dict(value), None) for key, value in READ_OR_REFUSED.items()},
    **{key: (in_dict(value), 'refused') for key, value in REFUSED.items()},
    'a frame longer than the file': (b'\x80\x04\x95' + struct.pack('<Q', HUGE) + b'.', 'refused'),
    'nothing': (b'', 'refused'),
    'an end without a value': (b'.', 'refused'),
}


@pytest.mark.parametrize('file_format', [zipped, older])
@pytest.mark.parametrize(('pickled', 'expected'), PICKLES.values(), ids=PICKLES)
def test_hostile_pickle(reader, pickled, expected, file_format):
    assert_harmless(reader, file_format(pickled), expected=expected)


# --- files with a correct pickle ---

GOOD = in_dict(tensor([4], [1]))


def deflated(size):
    """A small file with a tensor that unpacks to this number of bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        data = storage(size // 4)
        archive.writestr('a/data.pkl', in_dict(tensor([4], [1], data=data)))
        archive.writestr('a/version', '3')
        with archive.open('a/data/0', 'w') as record:
            for _ in range(size >> 20):
                record.write(bytes(1 << 20))
    return file.getvalue()


def with_sizes(file, old, new):
    """A zip whose directory states a wrong size of a record."""
    start = file.index(b'PK\x01\x02')
    sizes = [struct.pack('<II', size, size) for size in (old, new)]
    return file[:start] + file[start:].replace(*sizes)


def overlapping(records):
    """A zip with this number of records for the same bytes."""
    file = zipped(GOOD, bytes(100_000))
    start, end = file.index(b'PK\x01\x02'), file.index(b'PK\x05\x06')
    entry_start = file.index(b'PK\x01\x02', file.index(b'PK\x01\x02', start + 1))
    entry = file[entry_start : file.index(b'PK', entry_start + 4)]
    more = b''.join(entry.replace(b'a/data/0', b'a/d%05d' % i) for i in range(records))
    return file[:end] + more + end_of_zip(3 + records, end - start + len(more), start)


def end_of_zip(count, size, start):
    """The end of a zip, with the number of records and the size and start of its directory."""
    return struct.pack('<IHHHHIIH', 0x06054B50, 0, 0, count, count, size, start, 0)


def many_records():
    """A zip of many empty records, each of which takes more memory than its bytes in the file."""
    header = struct.pack('<IHHHHHHIIIHHHHHII', 0x02014B50, *[0] * 5, 0, 0, 0, 0, 1, *[0] * 6)
    directory = (header + b'a') * 100_000
    return b'PK\x03\x04' + directory + end_of_zip(65535, len(directory), 4)


FILES = {
    'a zip': (lambda: zipped(GOOD), 'read', ''),
    'a compressed zip': (lambda: deflated(1 << 27), 'refused', 'it is compressed'),
    'a record larger than the file': (
        lambda: with_sizes(zipped(GOOD), 16, 1 << 31), 'refused', 'sizes of its records',
    ),
    'a record beyond the end': (
        lambda: with_sizes(zipped(GOOD, b''), 0, 400), 'refused', 'cannot be read',
    ),
    'overlapping records': (lambda: overlapping(1000), 'refused', 'sizes of its records'),
    'many records': (many_records, None, ''),
    'no pickle': (lambda: zipped(GOOD).replace(b'data.pkl', b'data.pkm'), 'refused', 'data.pkl'),
    'no data': (lambda: zipped(GOOD).replace(b'data/0', b'data/1'), 'refused', 'data/0'),
    'an unknown byte order': (lambda: zipped(GOOD, byteorder='middle'), 'refused', 'byte order'),
    'half of a zip': (lambda: zipped(GOOD)[:-60], 'refused', 'cannot be read'),
    'an older file': (lambda: older(GOOD), 'read', ''),
    'an older file, too short': (lambda: older(GOOD)[:-1], 'refused', 'too short'),
    'an older file with a wrong size': (lambda: older(GOOD, 1 << 40), 'refused', 'size'),
    'an older file without data': (
        lambda: older(GOOD).replace(b'\x80\x02]q\x00X\x01\x00\x00\x000', b'\x80\x02]q\x00X\x00'),
        'refused', 'cannot be read',
    ),
    'an older file with a wrong start': (
        lambda: older(GOOD)[:5] + b'a' + older(GOOD)[6:], 'refused', 'its first bytes',
    ),
}  # fmt: skip


@pytest.mark.parametrize(('make', 'expected', 'words'), FILES.values(), ids=FILES)
def test_hostile_file(reader, make, expected, words):
    assert words in assert_harmless(reader, make(), expected=expected)


@pytest.mark.parametrize('order', ['little', 'big'])
def test_byte_order(tmp_path, order):
    data = struct.pack('<4f' if order == 'little' else '>4f', 1, 2, 3, 4)
    (tmp_path / 'a.pth').write_bytes(zipped(GOOD, data, byteorder=order))
    assert read_checkpoint(tmp_path / 'a.pth')['a'].tolist() == [1, 2, 3, 4]


def test_download_is_not_unpacked_to_the_disk(tmp_path, monkeypatch):
    """torch.hub unpacks a zip of one file."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    inner = tmp_path / 'inner.pth'
    torch.save(dict(a=torch.zeros(2)), inner)
    with zipfile.ZipFile(tmp_path / 'net.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.write(inner, 'unpacked.pth')
    url = (tmp_path / 'net.pth').as_uri()
    with safe_loading(), pytest.raises(UserError, match='compressed'):
        torch.hub.load_state_dict_from_url(url, progress=False)
    assert not list(tmp_path.rglob('unpacked.pth'))
    torch.hub.load_state_dict_from_url(url, progress=False)
    assert list(tmp_path.rglob('unpacked.pth'))


# --- safetensors ---


def safetensors(header, data=bytes(16), length=None):
    """A .safetensors file."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(content) if length is None else length) + content + data


def entry(start=0, end=16, shape=(4,)):
    return dict(dtype='F32', shape=[*shape], data_offsets=[start, end])


def with_text(content):
    return safetensors(dict(a=entry(), __metadata__=dict(b=content)))


SAFETENSORS = {
    'a good file': (safetensors(dict(a=entry())), 'read'),
    'overlapping tensors': (
        safetensors(dict(a=entry(0, 12, (3,)), b=entry(8, 16, (2,)))), 'refused',
    ),
    'an end beyond the file': (safetensors(dict(a=entry(0, 1 << 40, (1 << 38,)))), 'refused'),
    'a shape that overflows': (safetensors(dict(a=entry(shape=(1 << 62, 4)))), 'refused'),
    'a header that overflows': (safetensors(dict(a=entry()), length=(1 << 64) - 1), 'refused'),
    'a header beyond the file': (safetensors(dict(a=entry()), length=1 << 20), 'refused'),
    'a deeply nested header': (safetensors(b'{"a":' * 100_000), 'refused'),
    'a name twice': (
        safetensors(b'{"a": %b, "a": %b}' % ((json.dumps(entry()).encode(),) * 2)), None,
    ),
    'a deeply nested text': (with_text('[' * 100_000), 'refused'),
    'a text of many lists': (with_text('[' + '[],' * 200_000 + '[]]'), None),
    'a text of many digits': (with_text('9' * 1_000_000), 'read'),
    'nothing': (b'', 'refused'),
}  # fmt: skip


@pytest.mark.parametrize(('file', 'expected'), SAFETENSORS.values(), ids=SAFETENSORS)
def test_hostile_safetensors(reader, file, expected):
    pytest.importorskip('safetensors')
    assert_harmless(reader, file, '.safetensors', expected)


# --- randomly changed files ---


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 1)
        self.norm = torch.nn.BatchNorm2d(3)
        self.tied = self.conv


def checkpoint_content():
    """All types of values in a checkpoint of mmengine."""
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
    torch.save(checkpoint_content(), file, **options)
    return file.getvalue()


def names(known):
    """Instructions that look up one of these names."""
    return st.sampled_from([*known]).map(lambda full: name(*full.rsplit('.', 1)))


ORIGINALS = [saved_by_torch(*options) for options in product((True, False), (2, 4))]
LENGTHS = [0, 1, 255, 1 << 15, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 64) - 1]
KNOWN = names(unpickling.KNOWN)
POSITIONS = st.floats(0, 1, exclude_max=True)
PIECES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([code.encode('latin1') for code in pickletools.code2op]),
    st.sampled_from(LENGTHS).map(lambda n: struct.pack('<Q', n)),
    st.sampled_from(LENGTHS).map(lambda n: struct.pack('<I', n & 0xFFFFFFFF)),
    KNOWN,
)
KINDS = st.sampled_from(['write', 'insert', 'remove', 'copy'])
CHANGES = st.lists(st.tuples(KINDS, POSITIONS, POSITIONS, PIECES), min_size=1, max_size=6)


def changed(content, changes):
    """Apply changes to a file, one after another."""
    for kind, *positions, piece in changes:
        start, source = (int(position * len(content)) for position in positions)
        if kind == 'copy':
            piece = content[source : source + 1 + len(piece) * 4]
        removed = 0 if kind in ('insert', 'copy') else max(1, len(piece))
        added = b'' if kind == 'remove' else piece
        content = content[:start] + added + content[start + removed :]
    return content


def with_pickle(file, pickled):
    """Replace the pickle in a file in torch's format."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(made, 'w') as new:
        for record in old.infolist():
            is_pickle = record.filename.endswith('data.pkl')
            new.writestr(record.filename, pickled if is_pickle else old.read(record))
    return made.getvalue()


@share(0.5)
@given(st.sampled_from(ORIGINALS), CHANGES)
def test_changed_files(reader, file, changes):
    assert_harmless(reader, changed(file, changes))


@share(0.5)
@given(st.sampled_from(ORIGINALS[:2]), CHANGES)
def test_changed_pickles(reader, file, changes):
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        pickled = archive.read(next(n for n in archive.namelist() if n.endswith('data.pkl')))
    assert_harmless(reader, with_pickle(file, changed(pickled, changes)))


def combined(values):
    """Instructions that combine values, so that none lacks what it needs on the stack."""
    tuples = st.lists(values, max_size=7).map(lambda parts: make_tuple(*parts))
    pairs = st.lists(st.tuples(values, values), max_size=3)
    called = st.one_of(names(unpickling.CALLABLE), values)
    return st.one_of(
        tuples,
        tuples.map(lambda parts: parts[:-1] + b'l'),
        tuples.map(lambda parts: parts[:-1] + b'\x91'),
        tuples.map(lambda parts: parts + b'Q'),
        tuples.map(lambda parts: b'](' + parts[1:-1] + b'e'),
        pairs.map(lambda pairs: b'}(' + b''.join(map(b''.join, pairs)) + b'u'),
        st.tuples(called, tuples, st.sampled_from([b'R', b'\x81'])).map(b''.join),
        st.tuples(values, values, st.sampled_from([b'b', b'a'])).map(b''.join),
        st.tuples(values, values, values, st.just(b's')).map(b''.join),
        st.tuples(values, st.just(b'q\x01')).map(b''.join),
    )


VALUES = st.recursive(
    st.one_of(
        KNOWN,
        st.sampled_from([-1, 0, 1, 2, 4, 16, 1 << 31, HUGE, 1 << 64]).map(number),
        st.sampled_from(['f4', 'S9', 'latin1', 'cpu', '0', '_metadata', 'storage']).map(text),
        st.sampled_from(
            [
                b'N', b'\x88', b'G?\xf0' + bytes(6), b'h\x01', b']', b'}', b'\x8f', PAIRS[:20],
                tensor([4], [1]), tensor([2, 2], [0, 1]), storage(), dtype('f4'), dtype('>U2'),
                array([2], 'f4', latin1(bytes(8))), latin1(bytes(8)), latin1(bytes(4)),
                call(HISTORY),
            ]
        ),
    ),
    combined,
    max_leaves=25,
)  # fmt: skip


@share(0.5)
@given(VALUES)
def test_combined_instructions(reader, value):
    assert_harmless(reader, zipped(in_dict(value)))


@share(0.5)
@given(CHANGES)
def test_changed_safetensors(reader, changes):
    pytest.importorskip('safetensors')
    file = safetensors(dict(a=entry(0, 8, (2,)), b=entry(8, 16, (1, 2)), __metadata__=dict(c='1')))
    assert_harmless(reader, changed(file, changes), '.safetensors')


# --- the reader itself ---


def test_reader_reads_unchanged_files(reader):
    for file in ORIGINALS:
        assert_harmless(reader, file, expected='read')


def test_reader_reports_code_that_runs(reader, tmp_path):
    file = io.BytesIO()
    torch.save(dict(a=Payload(tmp_path / 'mark')), file)
    outcome, _, events, _ = reader(file.getvalue(), 1 << 30, trusted=True)
    assert outcome == 'read'
    assert (tmp_path / 'mark').exists()
    assert any('mark' in event for event in events)


def test_reader_reports_the_peak_of_memory(reader):
    """torch's own reader unpacks compressed records."""
    file = deflated(1 << 27)
    outcome, message, _, peak = reader(file, 1 << 30, trusted=True)
    assert outcome == 'read', message
    assert peak > max_memory(file)
