"""What workers are told to do in the tests; they import it in their own processes."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch


def job(what):
    """Behave well or in one of the ways in which a config can misbehave."""
    if what == 'crash':
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == 'leave':
        os._exit(3)
    if what == 'hang':
        time.sleep(60)
    if what == 'grow':
        hoard = bytearray(2 * 10**9)
        time.sleep(60)
        return {'held': len(hoard)}
    print('noise that must not reach the terminal')
    return {'pid': os.getpid()}


def crash_unless_fresh(calls=[]):  # noqa: B006  (it counts the calls in one process)
    """Die in every call but the first one of a process."""
    calls.append(1)
    if len(calls) > 1:
        os._exit(1)
    return {'pid': os.getpid()}


def examine_in(folder, name, fault):
    """Examine a config that mmseg would ship if this were its folder."""
    from sweep import attempt, subject
    from sweep.survey import examine, look_at

    from mmcnnmod.layers import MoDBlock
    from mmcnnmod.swap import weights

    def fail(*_):
        raise RuntimeError('a broken MoD block')

    with ExitStack() as patches:
        for module in (attempt, subject):
            patches.enter_context(patch.object(module, 'config_folder', lambda _: Path(folder)))
        if fault == 'block':
            patches.enter_context(patch.object(MoDBlock, 'forward', fail))
        if fault == 'start':
            patches.enter_context(patch.object(weights, 'start_warm'))
        return examine(look_at('mmseg', name), attempt.attempt)


def do(function, *args):
    """Any of the functions here, all in one process."""
    return globals()[function](*args)


def download(name):
    """Load a checkpoint as a config would."""
    from mmengine.runner import CheckpointLoader
    from sweep.attempt import make_calm

    make_calm()
    try:
        CheckpointLoader.load_checkpoint(name)
    except RuntimeError as problem:
        return {'error': str(problem)}
    return {}
