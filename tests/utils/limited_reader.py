"""A process that reads files with limited memory and time and reports what happened."""

import ctypes
import gc
import multiprocessing
import os
import resource
import signal
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.errors import UserError

SECONDS = 60  # of CPU time for a file
# Audit events (see sys.addaudithook) of running code, changing files and using the network.
FORBIDDEN = {
    'compile', 'ctypes.dlopen', 'exec', 'os.exec', 'os.fork', 'os.mkdir', 'os.posix_spawn',
    'os.remove', 'os.rename', 'os.rmdir', 'os.spawn', 'os.system', 'shutil.rmtree',
    'socket.connect', 'socket.getaddrinfo', 'subprocess.Popen', 'urllib.Request',
}  # fmt: skip
INSTALLED = (sys.prefix, sys.base_prefix, '<frozen importlib')


class LimitedReader:
    """Reads files in a forked process, so that a crash does not end the tests.

    Args:
        folder (Path): Where the files are written.
    """

    def __init__(self, folder):
        self.path = folder / 'hostile.pth'
        self.child = None

    def __call__(self, file, memory, suffix='.pth', trusted=False):
        """Read a file.

        Args:
            file (bytes): Its content.
            memory (int): How many bytes the reader may allocate.
            suffix (str): The suffix of its name. Defaults to '.pth'.
            trusted (bool): As for ``read_checkpoint``. Defaults to False.

        Returns:
            tuple: 'read', 'refused' or the class of another error; its message; the forbidden
            events; and the peak of memory in bytes, beyond what was in use before.
        """
        path = self.path.with_suffix(suffix)
        path.write_bytes(file)
        if self.child is None:
            context = multiprocessing.get_context('fork')
            self.pipe, end = context.Pipe()
            self.child = context.Process(target=serve, args=(end,), daemon=True)
            self.child.start()
            end.close()
        try:
            self.pipe.send((path, memory, trusted))
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.child.join()
            code, self.child = self.child.exitcode, None
            kept = path.with_name(f'killed_a_reader{suffix}')
            kept.write_bytes(file)
            name = signal.Signals(-code).name if code < 0 else code
            pytest.fail(f'{name} ended the reader; the file is kept as {kept}')

    def stop(self):
        """Stop the process if it was started."""
        if self.child is not None:
            self.child.kill()
            self.child.join()


def serve(pipe):
    """Read the files that are named in the pipe, one after another."""
    torch.set_num_threads(1)
    gc.freeze()  # so that collecting garbage after each file skips older objects
    sys.dont_write_bytecode = True
    libc = ctypes.CDLL(None)
    events = []
    watching = False

    def watch(event, arguments):
        writes = event == 'open' and (
            any(sign in (arguments[1] or '') for sign in 'wax+')
            or arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if watching and (writes or event in FORBIDDEN) and not is_import(event, arguments):
            events.append(f'{event} {arguments!r:.200}')

    sys.addaudithook(watch)
    while True:
        path, memory, trusted = pipe.recv()
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + SECONDS, -1))
        reserved = number_in('/proc/self/status', 'VmSize:') * 1024
        resource.setrlimit(resource.RLIMIT_AS, (reserved + memory, -1))
        libc.malloc_trim(0)  # otherwise freed memory that is used again would not count
        reset_peak()
        before = number_in('/proc/self/status', 'VmRSS:')
        watching = True
        try:
            content, outcome, text = read_checkpoint(path, trusted=trusted), 'read', ''
        except UserError as problem:
            content, outcome, text = None, 'refused', str(problem)
            problem.__cause__ = None
        except BaseException as problem:
            content, outcome, text = None, type(problem).__name__, str(problem)[:1000]
        watching = False
        peak = number_in('/proc/self/status', 'VmHWM:') - before
        use(content)
        content = None
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        gc.collect()
        pipe.send((outcome, text, list(events), peak * 1024))
        events.clear()


def is_import(event, arguments):
    """Whether the event is the first import of an installed module."""
    if event == 'exec':
        return arguments[0].co_filename.startswith(INSTALLED)
    return event == 'compile' and str(arguments[1]).startswith(INSTALLED)


def reset_peak():
    """Reset the kernel's record of the peak of memory."""
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')


def number_in(path, name):
    """The number after a name in a file of /proc."""
    with open(path) as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


def use(content):
    """Read all memory of the content. An access out of bounds ends the process."""
    rest, seen = [content], set()
    while rest:
        value = rest.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            if not value.is_quantized and value.device.type == 'cpu':
                value.detach().clone()
        elif isinstance(value, np.ndarray):
            value.tobytes()
        elif isinstance(value, HistoryBuffer):
            rest.extend(value.data)
        elif isinstance(value, dict):
            rest.extend(dict.values(value))
        elif isinstance(value, (list, tuple, set, frozenset)):
            rest.extend(value)
