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


def count_calls(calls=[]):  # noqa: B006
    """Count the calls in one process."""
    calls.append(1)
    return {'calls': len(calls)}


def examine_in(folder, name, fault):
    """Examine a config that mmseg would ship if this were its folder."""
    from sweep import case, smoke_run
    from sweep.schedule import examine, look_at

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
        return examine(look_at('mmseg', name), smoke_run.smoke_run)


def do(function, *args):
    """Call one of the functions here."""
    return globals()[function](*args)


def download(name):
    """Load a checkpoint as a config would."""
    from mmengine.runner import CheckpointLoader
    from sweep.smoke_run import seed_and_silence

    seed_and_silence()
    try:
        CheckpointLoader.load_checkpoint(name)
    except RuntimeError as problem:
        return {'error': str(problem)}
    return {}
