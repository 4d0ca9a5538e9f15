"""An unpickler that builds data and calls nothing else; ``torch.load`` takes it as pickle_module.

A pickle is a program: it may call any function of any module by name. This one knows the names that
checkpoints of torch and mmengine hold, and refuses every other before anything is called. It does
not depend on torch's ``weights_only``, whose list cannot be extended in torch 2.1, and which there
hands a file in TorchScript's format on to a loader that runs it.
"""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler


class Refused(pickle.UnpicklingError):
    """Says why a file is not read, such as 'it asks for posix.system'."""


def plain_dtype(code: str, align: bool = False, copy: bool = True) -> np.dtype:
    """A numpy dtype of numbers or text: the others hold objects, or offsets into memory."""
    dtype = np.dtype(code, align, True)  # a copy: its byte order may be set
    if not isinstance(code, str) or dtype.hasobject or dtype.kind not in 'biufcSU':
        raise Refused(f'it asks for numpy.dtype({code!r})')
    return dtype


def latin1_bytes(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 write bytes; other codecs are not data."""
    if encoding != 'latin1':
        raise Refused(f'it asks for the codec {encoding!r}')
    return text.encode('latin1')


# The functions that mmengine's state dicts hold: pickled as an attribute of their class.
METHODS = {
    HistoryBuffer: ('min', 'max', 'mean', 'current'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def known_method(owner: type, name: str) -> object:
    """``getattr`` for the methods that checkpoints hold."""
    if owner not in METHODS or name not in METHODS[owner]:
        raise Refused(f'it asks for the attribute {name!r} of {owner!r:.80}')
    return getattr(owner, name)


# What a pickle may call, by the names that it knows them by. numpy 2 has moved its two.
CALLABLE = {
    'collections.OrderedDict': OrderedDict,
    'collections.Counter': Counter,
    'builtins.set': set,
    '_codecs.encode': latin1_bytes,
    'builtins.getattr': known_method,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch._utils._rebuild_tensor': torch._utils._rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
    'torch._utils._rebuild_parameter': torch._utils._rebuild_parameter,
    'numpy.dtype': plain_dtype,
    'numpy.core.multiarray._reconstruct': np.ndarray.__reduce__(np.zeros(1))[0],
    'numpy.core.multiarray.scalar': np.float64.__reduce__(np.float64(1))[0],
    'mmengine.config.config.ConfigDict': ConfigDict,
    'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
}
# What it may hold beside.
DATA = {
    'numpy.ndarray': np.ndarray,
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler': OneCycleParamScheduler,
    **{f'{dtype}': dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)},
}
RENAMED = {'numpy._core.': 'numpy.core.', '__builtin__.': 'builtins.'}


class Unpickler(pickle._Unpickler):
    """Python's own unpickler, the one written in Python, with every door closed but three.

    They are the names of :data:`CALLABLE` and :data:`DATA`, calls of the former, and the state of
    the few types in :meth:`load_build`.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> object:
        """The object that a pickle asks for by name."""
        full_name = f'{module}.{name}'
        for new, old in RENAMED.items():
            if full_name.startswith(new):
                full_name = old + full_name.removeprefix(new)
        if full_name in CALLABLE:
            return CALLABLE[full_name]
        if full_name in DATA:
            return DATA[full_name]
        raise Refused(f'it asks for {full_name}')

    def load_call(self) -> None:
        """Call the function, or make an object of the class, below the arguments on the stack."""
        function = self.stack[-2]
        if not any(function is known for known in CALLABLE.values()):
            raise Refused(f'it calls {function!r:.80}')
        arguments = self.stack.pop()
        self.stack[-1] = function(*arguments)

    def load_build(self) -> None:
        """Give an object on the stack its state."""
        state = self.stack.pop()
        set_state(self.stack[-1], state)

    def load_foreign(self) -> None:
        """Refuse an instruction that torch.save does not write."""
        raise Refused('it holds an instruction that torch.save does not write')

    dispatch[pickle.REDUCE[0]] = load_call
    dispatch[pickle.NEWOBJ[0]] = load_call
    dispatch[pickle.BUILD[0]] = load_build
    for _code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = load_foreign


def set_state(thing: object, state: object) -> None:
    """Restore an object's state: that of a state dict, of a record of scalars, or of an array."""
    kind = type(thing)
    if kind is OrderedDict and set(state) == {'_metadata'}:
        thing._metadata = state['_metadata']
    elif kind is HistoryBuffer:
        # Beside these stands a table of functions, which every HistoryBuffer makes by itself.
        thing.__dict__.update({name: state[name] for name in HistoryBuffer().__dict__})
    elif kind is np.ndarray or (isinstance(thing, np.dtype) and only_byte_order(thing, state)):
        thing.__setstate__(state)
    else:
        raise Refused(f'it sets the state of a {kind.__module__}.{kind.__qualname__}')


def only_byte_order(dtype: np.dtype, state: tuple) -> bool:
    """Whether a state changes no more than the byte order: sizes and fields lead into memory."""
    own = dtype.__reduce__()[2]
    return (state[0], *state[2:]) == (own[0], *own[2:])


def load(file, **options) -> object:
    """What torch.load calls for the parts of its older format."""
    return Unpickler(file, **options).load()
