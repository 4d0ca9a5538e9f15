"""Kill a training at random moments, resume it, and compare the results.

    python tools/misc/crash_test.py --kills 30 CONFIG [options of tools/train.py]

It trains once without interruption. Then, for each kill, it starts the training again and sends
SIGKILL at a random time or, every second time, while a checkpoint is written. It continues the
training with --resume and compares the last checkpoints bit by bit: weights, their average,
optimizer, schedulers and random states. Use a config that trains for seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

# As in tools/train.py; read when torch is loaded.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

import torch
from rich.console import Console
from rich.table import Table
from torch.distributed.elastic.utils.distributed import get_free_port

from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.cli import train
from mmcnnmod.cli.resuming import checkpoints
from mmcnnmod.files import PARTIAL

TRAIN = Path(__file__).resolve().parents[1] / 'train.py'
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'training_state')
WAIT = 0.002
WRITING = 0.3  # the longest time, in seconds, from the start of a write to the kill


class Training:
    """tools/train.py in forked processes, which need no imports.

    Args:
        arguments (Sequence[str]): The arguments of tools/train.py.
        work_dir (Path): The work dir; process R writes its output to 'log-R.txt' in it.
        processes (int): The number of processes, connected by gloo.
    """

    def __init__(self, arguments: Sequence[str], work_dir: Path, processes: int) -> None:
        work_dir.mkdir(exist_ok=True)
        self.logs = [work_dir / f'log-{rank}.txt' for rank in range(processes)]
        self.began = time.monotonic()
        arguments = [*arguments, '--work-dir', str(work_dir)]
        port = get_free_port()
        self.children = []
        for rank, log in enumerate(self.logs):
            child = os.fork()
            if child == 0:
                become_training(arguments, log, rank, processes, port)
            self.children.append(child)

    def kill(self) -> None:
        """Kill all processes and their data loading workers."""
        for child in self.children:
            os.killpg(child, signal.SIGKILL)
        self.wait()

    def ended(self) -> bool:
        """Whether the first process has ended."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.children[0], options) is not None

    def wait(self) -> bool:
        """Wait for the end; returns whether all processes succeeded."""
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in self.children]
        self.seconds = time.monotonic() - self.began
        return not any(codes)


def become_training(arguments: list[str], log: Path, rank: int, processes: int, port: int) -> None:
    """Train in this process, a fork, and end it."""
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if processes > 1:
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
                MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES='-1',
            )  # fmt: skip
            arguments = [*arguments, '--launcher', 'pytorch']
        sys.argv = [str(TRAIN), *arguments]
        train.main(arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


def kill_at_random(training: Training, reference: Training, writing: bool) -> str:
    """Kill a training; returns a description of the time.

    Args:
        training (Training): A training that has just started.
        reference (Training): The same training without interruption.
        writing (bool): Whether to kill it during or just after the writing of a checkpoint.
    """
    moment = random.uniform(0, reference.seconds)
    if not writing:
        while not training.ended() and time.monotonic() - training.began < moment:
            time.sleep(WAIT)
        training.kill()
        return f'after {moment:.2f} s'
    count = random.randint(1, reference.writes)
    for _ in range(count):
        wait_for_partial(training, there=False)
        wait_for_partial(training, there=True)
    time.sleep(random.uniform(0, WRITING))
    training.kill()
    return f'in write {count}'


def wait_for_partial(training: Training, there: bool) -> None:
    """Wait until a checkpoint is, or is not, being written, or until training ends."""
    folder = training.logs[0].parent
    while any(folder.glob(f'{PARTIAL}*.pth')) != there and not training.ended():
        time.sleep(WAIT)


def differences(left: object, right: object, name: str = '') -> list[str]:
    """The names of the values in two checkpoints that differ in any bit."""
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        left, right = dict(enumerate(left)), dict(enumerate(right))
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return [name]
        return [
            found for key in left for found in differences(left[key], right[key], f'{name}.{key}')
        ]
    if hasattr(left, 'tobytes') or isinstance(left, torch.Tensor):
        alike = type(left) is type(right) and (left.dtype, left.shape) == (right.dtype, right.shape)
        return [] if alike and bytes_of(left) == bytes_of(right) else [name]
    return [] if left == right or left is right or (left != left and right != right) else [name]


def bytes_of(array: object) -> bytes:
    """The bytes of a tensor or an array, so that NaN equals NaN, and 0 differs from -0."""
    if isinstance(array, torch.Tensor):
        return array.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return array.tobytes()


def compared_content(path: Path) -> dict:
    """The content of a checkpoint that is compared."""
    content = read_checkpoint(path)
    return {key: content[key] for key in COMPARED if key in content}


def lines_with(log: Path, text: str) -> list[str]:
    """The lines of a log that contain a text."""
    return [line for line in log.read_text(errors='replace').splitlines() if text in line]


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options of this program, and the arguments of tools/train.py."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--kills', type=int, default=30, help='default: 30')
    parser.add_argument('--processes', type=int, default=1, help='on CPUs; default: 1')
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the random moments; default: 0'
    )
    parser.add_argument('config', help='a config that trains for seconds')
    parser.add_argument('options', nargs=argparse.REMAINDER, help='options of tools/train.py')
    args = parser.parse_args(argv)
    own = ['randomness.seed=0']
    if args.processes > 1:
        own.append('env_cfg.dist_cfg.backend=gloo')
    options = args.options
    given = options.index('--cfg-options') + 1 if '--cfg-options' in options else 0
    before = options[:given] if given else [*options, '--cfg-options']
    return args, [args.config, *before, *own, *options[given if given else len(options) :]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the crash test; exit code 1 if any training ended differently."""
    args, arguments = parse(argv)
    random.seed(args.seed)
    console = Console()
    table = Table('kill', 'when', 'resumed from', 'result')
    with tempfile.TemporaryDirectory(prefix='crash-test-') as folder:
        reference = Training(arguments, Path(folder, 'reference'), args.processes)
        if not reference.wait():
            sys.exit(f'error: training failed: {reference.logs[0].read_text()[-2000:]}')
        reference.writes = len(lines_with(reference.logs[0], 'Saving checkpoint'))
        expected = compared_content(checkpoints(reference.logs[0].parent)[0])
        console.print(f'without a kill: {reference.seconds:.1f} s, {reference.writes} checkpoints')
        same = 0
        for kill in range(1, args.kills + 1):
            work_dir = Path(folder, f'killed-{kill}')
            training = Training(arguments, work_dir, args.processes)
            moment = kill_at_random(training, reference, writing=kill % 2 == 0)
            training = Training([*arguments, '--resume'], work_dir, args.processes)
            if training.wait():
                found = differences(expected, compared_content(checkpoints(work_dir)[0]))
                verdict = f'different: {", ".join(found[:2])}' if found else 'the same'
            else:
                verdict = f'failed: {training.logs[0].read_text().strip().splitlines()[-1]}'
            same += verdict == 'the same'
            resumed = lines_with(training.logs[0], 'Load checkpoint from')
            start = Path(resumed[-1].split()[-1]).name if resumed else 'the beginning'
            table.add_row(str(kill), moment, start, verdict)
            console.print(f'{kill}: {moment}, from {start}, {verdict}')
    console.print(table)
    console.print(f'{same} of {args.kills} ended with the same bits')
    sys.exit(same < args.kills)


if __name__ == '__main__':
    main()
