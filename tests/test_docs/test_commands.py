"""The commands in the docs are valid.

The own parser of each program of ours parses the options, and if a command names a config, that is
read with the options applied. Fast programs also run. The tests in ELSEWHERE run the others.
"""

import argparse
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmcnnmod.cli.config import load_config

from ..utils.tasks import tail
from .pages import PAGES, ROOT, alternatives, commands

# The programs that run here, with options that make them fast.
RUN = {'tools/dataset_tools/generate_data.py': ['--size', '64x32', '--train', '10', '--val', '10']}
# The programs that other tests run; the file of the test must contain the program's name.
ELSEWHERE = {
    'examples/segment_folder.py': 'test_examples.py',
    'examples/swap_train_look.py': 'test_examples.py',
    'tools/analysis_tools/benchmark.py': 'test_tools/test_analysis_tools/test_benchmark.py',
    'tools/analysis_tools/channel_usage.py': 'test_tools/test_analysis_tools/test_channel_usage.py',
    'tools/analysis_tools/paper_tables.py': 'test_tools/test_analysis_tools/test_paper_tables.py',
    'tools/analysis_tools/plot_tradeoff.py': 'test_tools/test_analysis_tools/test_paper_tables.py',
    'tools/deployment/export.py': 'test_tools/test_export.py',
    'tools/deployment/quantize.py': 'test_deploy/test_quantization.py',
    'tools/deployment/test.py': 'test_tools/test_export.py',
    'tools/experiments/report.py': 'test_tools/test_experiments/test_programs.py',
    'tools/experiments/run.py': 'test_tools/test_experiments/test_programs.py',
    'tools/model_converters/dense_to_mod.py': 'test_tools/test_dense_to_mod.py',
    'tools/model_converters/publish_model.py': 'test_tools/test_publish_model.py',
    'tools/misc/crash_test.py': 'test_tools/test_interruptions.py',
    '.dev_scripts/sweep_upstream_configs.py': 'test_dev_scripts/test_sweep_upstream_configs.py',
    '.dev_scripts/write_metafile.py': 'test_dev_scripts/test_write_metafile.py',
    'tools/test.py': 'test_tools/test_train_and_test.py',
    'tools/train.py': 'test_tools/test_train_and_test.py',
    'tools/visualize.py': 'test_tools/test_visualize.py',
}
# Packages that no stack contains, see requirements/runtimes.txt.
NEEDED = {'examples/segment_folder.py': 'onnxruntime'}
PLACEHOLDER = re.compile(r'[A-Z][A-Z_]*')
# The config that replaces CONFIG; dense, because --mod needs a dense one.
DENSE = ROOT / 'tests/test_docs/resnet50.py'
COMMANDS = sorted({(line, page) for page in PAGES for line in commands(page)})


class Parsed(BaseException):
    """The program has parsed its command line."""


@dataclass
class Context:
    """The fixtures that the rules use."""

    monkeypatch: Any
    run_python: Any
    folder: Path


@pytest.mark.parametrize(('line', 'page'), COMMANDS)
def test_command(line, page, monkeypatch, run_python, tmp_path):
    monkeypatch.chdir(ROOT)
    for i, command in enumerate(alternatives(line)):
        context = Context(monkeypatch, run_python, tmp_path / str(i))
        check_command(shlex.split(command, comments=True), context)


def check_command(words, context):
    """Apply the rule for a command; a command without a rule fails."""
    if '&&' in words:
        check_command(words[: words.index('&&')], context)
        check_command(words[words.index('&&') + 1 :], context)
        return
    while re.match(r'\w+=', words[0]):
        words = words[1:]
    program, arguments = words[0], words[1:]
    if program.startswith('--'):  # only options
        check_own_program('tools/train.py', ['CONFIG', *words], context)
    elif match := re.fullmatch(r'tools/(dist|slurm)_(train|test)\.sh', program):
        assert (ROOT / program).is_file()
        check_launcher(*match.groups(), arguments, context)
    elif rule := RULES.get(Path(program).name):
        rule(arguments, context)
    else:
        pytest.fail(f'no rule for {program!r}; add one to {Path(__file__).name}')


def check_python(arguments, context):
    if arguments[0] == '-c':
        exec(arguments[1])
    else:
        check_own_program(arguments[0], arguments[1:], context)


def check_own_program(program, arguments, context):
    """Check the options and the files of a program of ours, and that a test runs it."""
    assert (ROOT / program).is_file(), f'{program} does not exist'
    for argument in arguments:
        if argument.startswith(('configs/', 'tools/', 'docs/')):
            assert (ROOT / argument).is_file(), f'{argument} does not exist'
    if program in NEEDED:
        pytest.importorskip(NEEDED[program])
    args = parse(program, arguments, context)
    if str(getattr(args, 'plan', '')).endswith('.py'):
        args.config = str(args.plan)
    if hasattr(args, 'config') and hasattr(args, 'launcher'):
        if PLACEHOLDER.fullmatch(args.config):
            args.config = str(DENSE)
        load_config(args)
    if program in RUN:
        paths = [
            str(context.folder / argument.strip('/')) if is_path(argument) else argument
            for argument in arguments
        ]
        result = context.run_python(ROOT / program, *paths, *RUN[program])
        assert result.returncode == 0, tail(result)
    else:
        assert program in ELSEWHERE, f'{program}: add it to RUN, or to ELSEWHERE with its test'
        test = ROOT / 'tests' / ELSEWHERE[program]
        assert Path(program).name in test.read_text(), f'{test} does not run {program}'


def parse(program, arguments, context):
    """The options that the program's own parser returns; the program then stops."""
    original = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, args=None, namespace=None):
        raise Parsed(original(self, args, namespace))

    with context.monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', parse_and_stop)
        patch.setattr(sys, 'argv', [program, *arguments])
        patch.setenv('OMP_WAIT_POLICY', 'PASSIVE')  # which the programs set
        patch.syspath_prepend(str((ROOT / program).parent))
        with pytest.raises((Parsed, SystemExit)) as caught:
            runpy.run_path(str(ROOT / program), run_name='__main__')
    assert caught.type is Parsed, f'{program} does not accept {shlex.join(arguments)}'
    return caught.value.args[0]


def is_path(argument):
    return '/' in argument or bool(PLACEHOLDER.fullmatch(argument))


def check_launcher(kind, task, arguments, context):
    """dist_*.sh needs the number of GPUs after the files, slurm_*.sh two words before them."""
    if kind == 'slurm':
        arguments = arguments[2:]
    else:
        position = 1 if task == 'train' else 2
        assert arguments[position].isdigit()
        arguments = arguments[:position] + arguments[position + 1 :]
    check_own_program(f'tools/{task}.py', arguments, context)


def check_torchrun(arguments, context):
    from torch.distributed.run import get_args_parser

    args = get_args_parser().parse_args(arguments)
    check_own_program(args.training_script, args.training_script_args, context)


def check_docker(arguments, context):
    """The Dockerfile has the build arguments, and there is a rule for the command in the image."""
    parser = argparse.ArgumentParser()
    parser.add_argument('task', choices=['build', 'run'])
    parser.add_argument('-f', default='docker/Dockerfile')
    parser.add_argument('--build-arg', action='append', default=[])
    for option in ('-t', '--gpus', '--shm-size', '-v'):
        parser.add_argument(option, action='append')
    parser.add_argument('--rm', action='store_true')
    parser.add_argument('-it', action='store_true')
    parser.add_argument('image')
    parser.add_argument('command', nargs=argparse.REMAINDER)
    args = parser.parse_args(arguments)
    known = re.findall(r'^ARG (\w+)', (ROOT / args.f).read_text(), re.MULTILINE)
    assert {pair.split('=')[0] for pair in args.build_arg} <= set(known)
    if args.task == 'build':
        assert args.image == '.'
    else:
        assert args.image.startswith('mmcnnmod')
        if args.command and args.command != ['bash']:
            check_command(args.command, context)


def check_make(arguments, context):
    """The Makefile has the targets and the variables."""
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    makefile = (ROOT / 'Makefile').read_text()
    for argument in arguments:
        if '=' in argument:
            assert re.search(rf'^{argument.split("=")[0]} \?=', makefile, re.MULTILINE), argument
    subprocess.run(['make', '-n', *arguments], check=True, cwd=ROOT, capture_output=True)


def check_pip(arguments, context):
    """It installs this project, a requirements file, or a package that the project pins."""
    parser = argparse.ArgumentParser()
    parser.add_argument('task', choices=['install'])
    parser.add_argument('-e', action='store_true')
    parser.add_argument('-r', type=Path)
    parser.add_argument('what', nargs='?')
    args = parser.parse_args(arguments)
    if args.r:
        assert args.r.is_file()
    elif args.what != '.':
        pins = ''.join(path.read_text() for path in ROOT.glob('requirements/*.txt'))
        assert re.search(rf'^{args.what}==', pins, re.MULTILINE), f'no version of {args.what}'


def check_pre_commit(arguments, context):
    assert arguments in (['install'], ['run', '--all-files'])
    assert (ROOT / '.pre-commit-config.yaml').is_file()


def check_source(arguments, context):
    """It activates the environment that `make setup` creates."""
    (script,) = arguments
    assert Path(script).parts[1:] == ('bin', 'activate')
    assert script.split('/')[0] in (ROOT / 'Makefile').read_text()


RULES = {
    'docker': check_docker,
    'make': check_make,
    'pip': check_pip,
    'pre-commit': check_pre_commit,
    'python': check_python,
    'python3': check_python,
    'source': check_source,
    'torchrun': check_torchrun,
}
