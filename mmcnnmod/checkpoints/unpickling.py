"""An unpickler that builds only data, within a limit that depends on the file's size.

A pickle is a program that may call any function of any module by name. This unpickler knows the
names in checkpoints of torch and mmengine and raises an error for all others before anything is
called. It does not use torch's ``weights_only``: in torch 2.1 the list of allowed names cannot be
extended, and files in TorchScript's format are passed to a loader that runs them.

A short pickle may also build something huge, so each step is charged to a :class:`Budget`.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from torch.storage import TypedStorage

# How many bytes a file may build: a constant plus a multiple of its size.
ALLOWANCE = 256 << 20
FACTOR = 4
# The bytes charged for an instruction, for a call, and for each item that is passed to a call.
INSTRUCTION, CALL, ITEM = 128, 1024, 64
DEPTH = 50  # how deep keys and arguments may be nested


class Refused(pickle.UnpicklingError):
    """A file is refused; the message is the reason, such as 'it asks for posix.system'."""

    danger = 'could run any code'


class TooLarge(Refused):
    """A file is refused because it would build more than its :class:`Budget` allows."""

    danger = 'could fill the memory'


class Budget:
    """The number of bytes that a file may still build.

    Args:
        size (int): The file's size in bytes.
    """

    def __init__(self, size: int):
        self.size = size
        self.left = ALLOWANCE + FACTOR * size

    def spend(self, amount: int) -> None:
        """Charge a number of bytes."""
        self.left -= amount
        if self.left < 0:
            raise TooLarge(f'it builds more than {ALLOWANCE >> 20} MiB and {FACTOR} times its size')

    def spend_on(self, values: Iterable) -> None:
        """Charge for values that a call copies or a dict or set hashes, with all nested items.

        An item that occurs twice is charged twice, because it is copied or hashed twice.
        """
        for _ in range(DEPTH):
            values = list(values)
            if not values:
                return
            self.spend(ITEM * len(values))
            items = []
            for value in values:
                if isinstance(value, (str, bytes)):
                    self.spend(len(value))
                elif isinstance(value, int):
                    self.spend(value.bit_length() // 8)
                elif isinstance(value, (tuple, list, dict, set, frozenset)):
                    self.spend(ITEM * len(value))
                    items.extend(value)
            values = items
        # Hashing deeply nested tuples would overflow Python's stack.
        raise TooLarge(f'it nests values more than {DEPTH} deep')

    def spend_on_keys(self, keys: Iterable, count: int) -> None:
        """Charge for keys that are added to a dict or set, which then has ``count`` of them.

        A file can choose numbers and tuples with equal hashes. Each is compared with all others.
        """
        self.spend_on(keys)
        self.spend(ITEM * count * sum(not has_own_hash(key) for key in keys))


def has_own_hash(key: object) -> bool:
    """Whether different keys of this type cannot be chosen to have the same hash."""
    if type(key) is int:
        return abs(key) < 1 << 60  # its hash is the number itself
    return isinstance(key, (str, bytes, bool, type(None)))


# --- functions that a pickle may call; they accept only what torch, numpy and mmengine write ---


def expect(condition: bool, what: str) -> None:
    """Raise an error if a file contains something that no library writes."""
    if not condition:
        raise ValueError(f'there is something wrong with {what}')


def are_sizes(numbers: object) -> bool:
    """Whether these can be the sizes or strides of a tensor or array."""
    return (
        isinstance(numbers, (tuple, list))
        and len(numbers) <= 64  # more dimensions than torch and numpy support
        and all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
    )


def ordered_dict(pairs: list | tuple = ()) -> OrderedDict:
    """An OrderedDict. Python 2 pickles it as a list of pairs, Python 3 as an empty call."""
    expect(type(pairs) in (list, tuple), 'a dict')
    expect(all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs), 'a dict')
    expect(all(has_own_hash(key) for key, _ in pairs), 'a dict')
    return OrderedDict(pairs)


def counter(counts: dict) -> Counter:
    """A Counter, given its counts."""
    expect(type(counts) is dict, 'a Counter')
    return Counter(counts)


def config_dict(items: dict) -> ConfigDict:
    """A ConfigDict. Its own constructor would copy all nested items."""
    expect(type(items) is dict, 'a ConfigDict')
    made = ConfigDict()
    dict.update(made, items)
    return made


def plain_set(items: list) -> set:
    """A set, given the list of its members."""
    expect(type(items) is list and all(map(has_own_hash, items)), 'a set')
    return set(items)


def size(numbers: tuple) -> torch.Size:
    """The size of a tensor."""
    expect(are_sizes(numbers), 'a torch.Size')
    return torch.Size(numbers)


def tensor(
    storage: TypedStorage,
    offset: int,
    sizes: tuple,
    strides: tuple,
    requires_grad: bool = False,
    hooks: dict | None = None,
) -> torch.Tensor:
    """A tensor with all elements inside its storage."""
    expect(type(storage) is TypedStorage and not hooks, 'a tensor')
    expect(are_sizes(sizes) and are_sizes(strides) and are_sizes([offset]), "a tensor's sizes")
    expect(len(sizes) == len(strides), "a tensor's strides")
    if 0 not in sizes:
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        expect(last < storage._size(), 'a tensor: it reaches beyond its data')
    made = torch.empty(0, dtype=storage.dtype, device=storage._untyped_storage.device)
    made.set_(storage._untyped_storage, offset, sizes, strides)
    return made.requires_grad_(bool(requires_grad))


def parameter(data: torch.Tensor, requires_grad: bool, hooks: dict | None) -> torch.nn.Parameter:
    """A parameter of a network."""
    expect(isinstance(data, torch.Tensor) and not hooks, 'a parameter')
    return torch.nn.Parameter(data, bool(requires_grad))


def plain_dtype(code: str, *_) -> np.dtype:
    """A numpy dtype of numbers or text. Other dtypes contain objects or offsets into memory."""
    if type(code) is str and re.fullmatch('[<>=|]?[biufcSU][1-9][0-9]{0,8}', code):
        return np.dtype(code, False, True)  # a copy, as its byte order may be set
    raise Refused(f'it asks for numpy.dtype({shown(code)})')


def empty_array(kind: type, *_) -> np.ndarray:
    """An array; :func:`set_state` sets its shape and content."""
    expect(kind is np.ndarray, 'an array')
    return np.empty(0, np.int8)


def scalar(dtype: np.dtype, content: bytes) -> np.generic:
    """A scalar of numpy."""
    expect(isinstance(dtype, np.dtype) and type(content) is bytes, 'a scalar')
    expect(len(content) == dtype.itemsize, 'a scalar')
    return np.frombuffer(content, dtype)[0]


def latin1_bytes(text: str, encoding: str) -> bytes:
    """Bytes, which protocol 2 writes as encoded text. Other codecs raise an error."""
    if type(encoding) is not str or encoding != 'latin1':
        raise Refused(f'it asks for the codec {shown(encoding)}')
    expect(type(text) is str, 'bytes')
    return text.encode('latin1')


def history() -> HistoryBuffer:
    """A history; :func:`set_state` sets its content."""
    return HistoryBuffer()


# Functions in mmengine's state dicts, which are pickled as attributes of their class.
METHODS = [
    (history, HistoryBuffer, ('min', 'max', 'mean', 'current')),
    (OneCycleParamScheduler, OneCycleParamScheduler, ('_annealing_cos', '_annealing_linear')),
]


def known_method(owner: object, name: str) -> object:
    """``getattr`` for the methods in checkpoints."""
    for known, kind, names in METHODS:
        if owner is known and type(name) is str and name in names:
            return getattr(kind, name)
    raise Refused(f'it asks for the attribute {shown(name)} of {shown(owner)}')


def shown(value: object) -> str:
    """A short text for an error, without the items of containers, which may be endless."""
    if isinstance(value, str):
        return repr(value[:40])
    return getattr(value, '__name__', None) if callable(value) else f'a {type(value).__name__}'


# What a pickle may call, by its name in pickles. RENAMED has the names of numpy 2 and Python 2.
CALLABLE = {
    'collections.OrderedDict': ordered_dict,
    'collections.Counter': counter,
    'builtins.set': plain_set,
    '_codecs.encode': latin1_bytes,
    'builtins.getattr': known_method,
    'torch.Size': size,
    'torch.device': torch.device,
    'torch._utils._rebuild_tensor': tensor,
    'torch._utils._rebuild_tensor_v2': tensor,
    'torch._utils._rebuild_parameter': parameter,
    'numpy.dtype': plain_dtype,
    'numpy.core.multiarray._reconstruct': empty_array,
    'numpy.core.multiarray.scalar': scalar,
    'mmengine.config.config.ConfigDict': config_dict,
    'mmengine.logging.history_buffer.HistoryBuffer': history,
}
# A pickle names the dtype of a storage by a class, such as FloatStorage.
STORAGES = {
    name: kind._dtype
    for name, kind in vars(torch).items()
    if name.endswith('Storage') and isinstance(getattr(kind, '_dtype', None), torch.dtype)
}
# What a pickle may refer to without calling it.
DATA = {
    'numpy.ndarray': np.ndarray,
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler': OneCycleParamScheduler,
    **{f'{dtype}': dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)},
    **{  # methods in protocol 4
        f'{kind.__module__}.{kind.__name__}.{name}': getattr(kind, name)
        for _, kind, names in METHODS
        for name in names
    },
    **{f'torch.{name}': dtype for name, dtype in STORAGES.items()},
    **{f'torch.cuda.{name}': dtype for name, dtype in STORAGES.items()},
}
KNOWN = {**CALLABLE, **DATA}
RENAMED = {'numpy._core.': 'numpy.core.', '__builtin__.': 'builtins.'}


class ChargingTable(dict):
    """The table of instructions, which charges a budget for each one that is looked up."""

    budget = None

    def __getitem__(self, code: int) -> Callable:
        self.budget.spend(INSTRUCTION)
        return super().__getitem__(code)


class Unpickler(pickle._Unpickler):
    """Python's unpickler (its implementation in Python), restricted to data.

    A pickle may refer to the names in :data:`CALLABLE` and :data:`DATA`, call the former, and set
    the state of the types in :func:`set_state`.

    Args:
        file (io.IOBase): The file. One pickle is read from its current position.
        budget (Budget): Limits what is built.
        storage (Callable, optional): Returns the storage of a tensor, given dtype, key, location,
            number of elements, and in the older format a view. Defaults to None: no tensors.
    """

    dispatch = ChargingTable(pickle._Unpickler.dispatch)

    def __init__(self, file: io.IOBase, budget: Budget, storage: Callable | None = None):
        super().__init__(file, encoding='utf-8')
        self.budget = budget
        self.dispatch = ChargingTable(self.dispatch)
        self.dispatch.budget = budget
        self.storage = storage
        # A pickle may state any length, and Python would allocate that much at once.
        self._file_read = lambda count: file.read(min(count, budget.size))

    def find_class(self, module: str, name: str) -> object:
        """Return the object with this name, or raise an error."""
        full_name = f'{module}.{name}'
        for new, old in RENAMED.items():
            if full_name.startswith(new):
                full_name = old + full_name.removeprefix(new)
        if full_name not in KNOWN:
            raise Refused(f'it asks for {full_name}')
        return KNOWN[full_name]

    def persistent_load(self, pid: tuple) -> TypedStorage:
        """The storage of a tensor. Other references raise an error: torch may write files."""
        is_data = type(pid) is tuple and len(pid) >= 5 and pid[0] == 'storage'
        expect(is_data and self.storage is not None, 'what it refers to')
        _, dtype, key, location, count, *rest = pid
        expect(isinstance(dtype, torch.dtype) and are_sizes([count]), "a tensor's data")
        expect(type(key) is str and type(location) is str, "a tensor's data")
        return self.storage(dtype, key, location, count, *rest)

    def load_call(self) -> None:
        """Call a function, or create an object of a class."""
        arguments = self.stack.pop()
        function = self.stack.pop()
        if not any(function is known for known in CALLABLE.values()):
            raise Refused(f'it calls {shown(function)}')
        expect(type(arguments) is tuple, 'a call')
        self.budget.spend(CALL)
        self.budget.spend_on(arguments)
        made = function(*arguments)
        if function is tensor:  # each repetition of an element by its strides counts
            self.budget.spend(math.prod(made.shape) * made.element_size())
        self.append(made)

    def load_build(self) -> None:
        """Set the state of the object on the stack."""
        state = self.stack.pop()
        self.budget.spend_on([state])
        set_state(self.stack[-1], state)

    def top(self, *types: type) -> object:
        """The container on the stack, if it is exactly of one of these types.

        Arrays and tensors have items too, and ``append`` of other objects could do anything.
        """
        expect(type(self.stack[-1]) in types, f'a {types[0].__name__}')
        return self.stack[-1]

    def extend(self, items: list) -> None:
        """Append items to a list."""
        self.budget.spend(ITEM * len(items))
        self.top(list).extend(items)

    def set_items(self, items: list) -> None:
        """Put alternating keys and values into a dict."""
        container, keys, values = self.top(dict, OrderedDict, Counter), items[::2], items[1::2]
        self.budget.spend(ITEM * len(values))
        self.budget.spend_on_keys(keys, len(container) + len(keys))
        for key, value in zip(keys, values, strict=True):
            container[key] = value

    def load_setitem(self) -> None:
        """Put one key and value into a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_additems(self) -> None:
        """Add members to a set."""
        items, container = self.pop_mark(), self.top(set)
        self.budget.spend_on_keys(items, len(container) + len(items))
        container.update(items)

    def load_frozenset(self) -> None:
        """Create a frozenset of the items on the stack."""
        items = self.pop_mark()
        self.budget.spend_on_keys(items, len(items))
        self.append(frozenset(items))

    def load_foreign(self) -> None:
        """Raise an error for an instruction that torch.save does not write."""
        raise Refused('it holds an instruction that torch.save does not write')

    own = {
        pickle.REDUCE: load_call,
        pickle.NEWOBJ: load_call,
        pickle.BUILD: load_build,
        pickle.APPEND: lambda self: self.extend([self.stack.pop()]),
        pickle.APPENDS: lambda self: self.extend(self.pop_mark()),
        pickle.SETITEM: load_setitem,
        pickle.SETITEMS: lambda self: self.set_items(self.pop_mark()),
        pickle.ADDITEMS: load_additems,
        pickle.FROZENSET: load_frozenset,
        **dict.fromkeys(
            (
                *(pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
                # Bytes that are allocated before they are read, and views of an array's memory.
                *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
                # Of protocol 0, which torch.save does not use; its memo has indices of any length.
                *(pickle.PUT, pickle.GET, pickle.DICT),
            ),
            load_foreign,
        ),
    }
    dispatch.update({code[0]: function for code, function in own.items()})


def set_state(target: object, state: object) -> None:
    """Set the state of a state dict, a history, an array or a dtype."""
    kind = type(target)
    if kind is OrderedDict and type(state) is dict and list(state) == ['_metadata']:
        target._metadata = state['_metadata']
    elif kind is HistoryBuffer:
        set_history(target, state)
    elif kind is np.ndarray:
        set_array(target, state)
    elif isinstance(target, np.dtype) and changes_only_byte_order(target, state):
        target.__setstate__(state)
    else:
        raise Refused(f'it sets the state of a {kind.__module__}.{kind.__qualname__}')


def set_history(target: HistoryBuffer, state: dict) -> None:
    """Set the numbers of a history, but not its table of functions."""
    expect(type(state) is dict, 'a history')
    state = {name: state[name] for name in HistoryBuffer().__dict__}
    values, counts = state['_log_history'], state['_count_history']
    for numbers in (values, counts):
        expect(type(numbers) is np.ndarray and numbers.ndim == 1, 'a history')
    expect(len(values) == len(counts) and type(state['max_length']) is int, 'a history')
    target.__dict__.update(state)


def set_array(target: np.ndarray, state: tuple) -> None:
    """Set the shape and content of an array."""
    expect(type(state) is tuple and len(state) == 5, 'an array')
    version, shape, dtype, is_fortran, content = state
    expect(are_sizes(shape) and isinstance(dtype, np.dtype), 'an array')
    expect(type(content) is bytes, 'an array')
    expect(math.prod(shape) * dtype.itemsize == len(content), "an array's shape")
    target.__setstate__((version, tuple(shape), dtype, bool(is_fortran), content))


def changes_only_byte_order(dtype: np.dtype, state: tuple) -> bool:
    """Whether a state sets only the byte order. Sizes and fields could point into memory."""
    own = dtype.__reduce__()[2]
    plain = type(state) is tuple and all(type(part) in (int, str, type(None)) for part in state)
    return plain and (state[0], *state[2:]) == (own[0], *own[2:])
