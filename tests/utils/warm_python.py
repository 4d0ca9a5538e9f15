"""A server that imports the toolboxes once and runs programs in forks, which start at once.

Each line of its input describes a program, and each line of its output is an exit code. If a
program starts the interpreter again, as launchers do, that is a fork, too. The server does not
import this project, so that programs import its current files.
"""

import atexit
import importlib
import json
import os
import runpy
import subprocess
import sys
import threading
import traceback
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib.util import find_spec

STACK = ('torch', 'mmcv.ops', 'mmengine.runner', 'mmpretrain.apis', 'mmseg.apis', 'mmdet.apis')
SECONDS = 600


def quiet_environment(**more):
    """The environment of a program: one thread, no warnings, and additional variables."""
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', **more}


def run_program(*command, cwd, **env):
    """Run a program in a new process.

    Args:
        *command: The program and its arguments.
        cwd: The working directory.
        **env: Additional environment variables.

    Returns:
        subprocess.CompletedProcess: The exit code, output and errors.
    """
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=quiet_environment(**env), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip


class ForkingPopen(subprocess.Popen):
    """Starts Python programs as forks, and other programs as usual."""

    def __init__(self, args, *more, env=None, pass_fds=(), forget=(), **options):
        if not isinstance(args, str) and args[0] == sys.executable:
            options['preexec_fn'] = lambda: become(args[1:], env, pass_fds, forget)
        super().__init__(args, *more, env=env, pass_fds=pass_fds, **options)


def become(arguments, env, keep_open, forget):
    """In a fork, do what the interpreter does with its arguments, and exit."""
    code = 1
    try:
        # Close all other files; one is the pipe from which Popen learns that the program started.
        begin = 3
        for kept in (*sorted(keep_open), os.sysconf('SC_OPEN_MAX')):
            os.closerange(begin, kept)
            begin = kept + 1
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        for name in list(sys.modules):
            if name.split('.')[0] in forget:
                del sys.modules[name]
        sys.stdin, sys.stdout, sys.stderr = (open_stream(number) for number in range(3))
        run([os.fspath(argument) for argument in arguments])
        code = 0
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
        with suppress(BaseException):
            sys.stdout.flush()
        os._exit(code)


def open_stream(number):
    """Open standard input, output or error, buffered by line."""
    mode = 'w' if number else 'r'
    return open(number, mode, buffering=1, errors='backslashreplace', closefd=False)


def run(arguments):
    """Run a script, a module (-m) or code (-c) as __main__."""
    while arguments[0] in ('-u', '-W'):
        arguments = arguments[1 if arguments[0] == '-u' else 2 :]
    first, *sys.argv = arguments
    if first == '-m':
        sys.path.insert(0, os.getcwd())
        runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
    elif first == '-c':
        sys.path.insert(0, '')
        code, sys.argv[0] = sys.argv[0], '-c'
        exec(compile(code, '<string>', 'exec'), {'__name__': '__main__'})
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        sys.argv.insert(0, first)
        runpy.run_path(first, run_name='__main__')


def read_indexes_once(packages=()):
    """Cache the model indexes, which mmengine reads for every config based on a toolbox's config.

    Reading one takes half a second.

    Args:
        packages: Toolboxes whose indexes are read now.
    """
    from mmengine.config import utils

    utils.load = cache(utils.load)
    for package in packages:
        with suppress(Exception):  # it reads the index and then does not find the empty name
            utils._get_cfg_metainfo(os.path.dirname(find_spec(package).origin), '')


def serve():
    """Run the programs one after the other."""
    for line in sys.stdin:
        job = json.loads(line)
        with open(job['stdout'], 'wb') as out, open(job['stderr'], 'wb') as err:
            process = subprocess.Popen(
                [sys.executable, *job['arguments']], cwd=job['cwd'], env=job['env'],
                forget=job['forget'], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                code = process.wait()
        print(code, flush=True)


if __name__ == '__main__':
    subprocess.Popen = ForkingPopen
    sys.path.pop(0)
    with redirect_stdout(sys.stderr):
        for name in STACK:
            # A program that needs the module reports the error.
            with suppress(Exception):
                importlib.import_module(name)
        with suppress(Exception):
            read_indexes_once(name.split('.')[0] for name in STACK)
    serve()
