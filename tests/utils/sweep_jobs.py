"""Functions that tests call in worker processes, which import this module."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch


def job(what):
    """Return, or fail in one of the ways in which a config can fail."""
    if what == 'crash':
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == 'exit':
        os._exit(3)
    if what == 'hang':
        time.sleep(60)
    if what == 'grow':
        memory = bytearray(2 * 10**9)
        time.sleep(60)
        return {'bytes': len(memory)}
    print('must not be shown in the terminal')
    return {'pid': os.getpid()}


def count_calls(calls=[]):  # noqa: B006
    """Count the calls in one process."""
    calls.append(1)
    return {'calls': len(calls)}


def examine_in(folder, name, fault):
    """Examine a config in a folder as one of mmseg's own."""
    from sweep import case, smoke_run
    from sweep.schedule import examine, read_entry

    from mmcnnmod.layers import MoDBlock
    from mmcnnmod.swap import weights

    def fail(*_):
        raise RuntimeError('a broken MoD block')

    with ExitStack() as patches:
        for module in (case, smoke_run):
            patches.enter_context(patch.object(module, 'config_folder', lambda _: Path(folder)))
        if fault == 'block':
            patches.enter_context(patch.object(MoDBlock, 'forward', fail))
        if fault == 'start':
            patches.enter_context(patch.object(weights, 'start_warm'))
        return examine(read_entry('mmseg', name), smoke_run.smoke_run)


def load_checkpoint(name):
    """Load a checkpoint as a config does; return the error."""
    from mmengine.runner import CheckpointLoader
    from sweep.smoke_run import seed_and_silence

    seed_and_silence()
    try:
        CheckpointLoader.load_checkpoint(name)
    except RuntimeError as problem:
        return {'error': str(problem)}
    return {}
