"""The unpickler builds the data in checkpoints and refuses everything else."""

import io
import pickle
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

from mmcnnmod.checkpoints import unpickling

DATA = [
    {'a': [1, 2.5, None, True, 'text', b'bytes \xff'], 'b': ({'set'}, 1 << 70)},
    OrderedDict(a=Counter({2: 1})),
    ConfigDict(a=dict(b=[dict(c=1)])),
    torch.Size([2, 3]),
    torch.device('cpu'),
    [torch.float16, torch.bfloat16, torch.int64, torch.bool],
]
ARRAYS = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.asfortranarray([[0.25, 0.5], [1.5, -2.75], [1e-9, 4e8]]),
    np.array([1, -2], dtype='>i2'),
    np.array(['road', 'sky']),
    np.array([True, False]),
    np.float32(0.5),
    np.int64(-3),
]


def load(pickled):
    return unpickling.Unpickler(io.BytesIO(pickled), unpickling.Budget(len(pickled))).load()


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('value', DATA, ids=str)
def test_data_in_every_protocol(value, protocol):
    loaded = load(pickle.dumps(value, protocol))
    assert type(loaded) is type(value)
    assert loaded == value


def test_ordered_dict_of_python_2():
    """Python 2 writes a list of pairs."""
    pairs = pickle.dumps(([['a', 1]],), 2)[2:-1]
    assert load(b'ccollections\nOrderedDict\n' + pairs + b'R.') == OrderedDict(a=1)


@pytest.mark.parametrize('array', ARRAYS, ids=repr)
def test_array_keeps_dtype_order_and_values(array):
    pickled = pickle.dumps(array, 2)
    loaded, expected = load(pickled), pickle.loads(pickled)
    assert type(loaded) is type(array)
    assert loaded.dtype == expected.dtype
    assert loaded.flags.f_contiguous == expected.flags.f_contiguous
    assert np.array_equal(loaded, array)


@pytest.mark.parametrize('array', [np.arange(3), np.float64(3)], ids=repr)
def test_arrays_of_numpy_1_and_2(array):
    """numpy 2 has moved the functions that rebuild arrays and scalars."""
    numpy_1 = pickle.dumps(array, 2).replace(b'numpy._core', b'numpy.core')
    for pickled in (numpy_1, numpy_1.replace(b'numpy.core', b'numpy._core')):
        assert np.array_equal(load(pickled), array)


def test_history_keeps_its_numbers():
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    pickled = pickle.dumps(history, 2)
    loaded = load(pickled)
    assert loaded.mean() == 2
    assert loaded.statistics('max') == 3
    loaded.update(5.0)
    assert loaded.current() == 5


def test_function_in_the_state_of_a_scheduler():
    function = OneCycleParamScheduler._annealing_cos
    assert load(pickle.dumps(function, 2)) is function


class Reduced:
    """Pickled as a call of a function, and optionally a state."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def state_of_a_class(state):
    """A pickle that sets the state of a class."""
    name = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
    return name + pickle.dumps(state, 2)[2:-1] + pickle.BUILD + pickle.STOP


MIN = Reduced(getattr, (HistoryBuffer, 'min'))
REFUSED = {
    'a function': pickle.dumps(print, 2),
    'a class': pickle.dumps(Reduced(io.StringIO, ()), 2),
    'another attribute of a class': pickle.dumps(Reduced(getattr, (HistoryBuffer, '__init__')), 2),
    'an attribute of an array': pickle.dumps(Reduced(getattr, (np.ndarray, 'tofile')), 2),
    'a name with dots': b'\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.',
    'a call of a method': pickle.dumps(MIN, 2)[:-1] + b'(t' + pickle.REDUCE + pickle.STOP,
    'another codec': b'c_codecs\nencode\n' + pickle.dumps(('a', 'rot13'), 2)[2:-1] + b'R.',
    'objects in an array': pickle.dumps(np.array([None]), 2),
    'an array with fields': pickle.dumps(np.zeros(1, 'f4,f4'), 2),
    'a dtype with another size': pickle.dumps(
        Reduced(np.dtype, ('U1', False, True), (3, '<', None, None, None, 4000, 4, 8)), 2
    ),
    'attributes of a class': state_of_a_class((None, {'min': 1})),
    'state of a class': state_of_a_class({'min': 1}),
    'attributes of a dict': pickle.dumps(Reduced(OrderedDict, (), {'items': 1}), 2),
    'the opcode INST': b'(ios\nsystem\n.',
    'the opcode OBJ': b'(ccollections\nOrderedDict\no.',
    'the opcode EXT1': b'\x82\x01.',
    'the opcode DICT': b'(d.',
}


@pytest.mark.parametrize('pickled', REFUSED.values(), ids=REFUSED)
def test_everything_else_is_refused(pickled):
    before = dict(vars(HistoryBuffer))
    with pytest.raises(unpickling.Refused, match=r'^it '):
        load(pickled)
    assert dict(vars(HistoryBuffer)) == before


def test_history_registers_no_functions():
    """mmengine's own loading would write them into a table of the class."""
    state = dict(HistoryBuffer([1.0], [1]).__getstate__(), statistics_methods={'mean': Counter})
    loaded = load(pickle.dumps(Reduced(HistoryBuffer, (), {**state, 'mean': Counter}), 2))
    assert loaded.mean() == loaded.statistics('mean') == 1
