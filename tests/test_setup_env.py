"""tools/misc/setup_env.sh, run with fake tools on an otherwise empty PATH."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = (
    'awk', 'bash', 'cat', 'cp', 'cut', 'df', 'dirname', 'flock', 'grep', 'ln', 'mkdir', 'mv',
    'gzip', 'nproc', 'rm', 'sed', 'sha256sum', 'sleep', 'tail', 'tar', 'touch', 'tr', 'uname',
)  # fmt: skip

# It recognises each call by its arguments and logs it. FAKE_VERSION is its Python version,
# FAKE_LACKS names what is missing from it, FAKE_TORCH is the version of torch, and FAKE_OPS the
# target to compile mmcv for. While the file `broken` exists, mmcv does not load. Compiling
# mmcv removes that file and writes the flags, the source and the precompiled headers to `compiled`.
# The real pip or uv, named by FAKE_CLIENT, searches the indexes; without it they are empty.
FAKE_PYTHON = r"""#!/usr/bin/env bash
note() { echo "$*" >>"$FAKE_LOG"; }
case "$*" in
    *-ISc*) echo "$FAKE_VERSION.7" ;;
    *ensurepip*) echo "$FAKE_VERSION $FAKE_LACKS" ;;
    *'-m venv '*) note venv && mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *'install uv=='*) note uv && cp "$FAKE_UV" "${0%/*}/uv" ;;
    *--only-binary*) [[ $FAKE_CLIENT == pip ]] && exec "$REAL_PYTHON" "$@" || exit 1 ;;
    *'pip download'*)
        while [[ $1 != -d ]]; do shift; done
        mkdir "$2/mmcv-0" && echo "cxx = ['-std=c++17']" >"$2/mmcv-0/setup.py"
        tar -czf "$2/mmcv-0.tar.gz" -C "$2" mmcv-0 ;;
    *'pip wheel'*)
        note "compile jobs=$MAX_JOBS gpus=${CUDA_VISIBLE_DEVICES-visible} $*"
        echo 'compiler error'
        [[ ! -e $FAKE_ROOT/uncompilable ]] || exit 1
        while [[ $1 != -w ]]; do shift; done
        { echo "$CFLAGS"; cat "$2/source/setup.py"; echo "$2"/*.gch; } >"$FAKE_ROOT/compiled"
        touch "$2/mmcv-0-py3.whl"
        rm -f "$FAKE_ROOT/broken" ;;
    *'pip install'*) note "pip $*" ;;
    *get_config_vars*) printf '%s\n' '-DOF_PYTHON' 'torch/include' ;;
    *cpp_extension*) echo "$FAKE_OPS $FAKE_TORCH 13" ;;
    *'import mmcv.ops, '*) note proof ;;
    *'import mmcv.ops'*)
        if [[ -e $FAKE_ROOT/broken ]]; then echo 'x.so: undefined symbol: _ZN3' >&2; exit 1; fi ;;
    *importlib.metadata*) exit 1 ;;
esac
"""
FAKE_UV = r"""#!/usr/bin/env bash
if [[ $1 == --version ]]; then echo "uv $FAKE_UV_VERSION (fake)"; exit; fi
if [[ $* == *--only-binary* && $FAKE_CLIENT != uv ]]; then exit 1; fi
echo "uv $*" >>"$FAKE_LOG"
case "$*" in *--only-binary* | *published*)
    exec "$REAL_UV" pip install --python "$REAL_PYTHON" --target "$FAKE_SITE" "${@:5}" ;;
esac
case "$*" in *'-e .'*) mkdir -p mmcnnmod/.mim && ln -sfn ../../configs mmcnnmod/.mim/configs ;; esac
"""

# FAKE_CXX is its version text, FAKE_STD the C++ standard that torch's headers need.
FAKE_COMPILER = r"""#!/usr/bin/env bash
case "$*" in
    --version) echo "$FAKE_CXX" ;;
    *-std=$FAKE_STD*) touch "${@: -1}" ;;
    *) echo '#error wrong C++ standard' && exit 1 ;;
esac
"""
GCC = 'g++ 12, Copyright (C) 2022 Free Software Foundation, Inc.'


def find_uv():
    """The uv of this environment, which the set-up installs, or any other."""
    uv = Path(sys.executable).with_name('uv')
    return uv if uv.exists() else shutil.which('uv')


class Machine:
    """A temporary checkout, home folder and PATH."""

    def __init__(self, folder):
        self.root = folder / 'checkout'
        self.bin = folder / 'bin'
        self.bin.mkdir()
        for name in ('requirements', 'setup.py', 'mmcnnmod/version.py', 'tools/misc/setup_env.sh'):
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.tool('python3', FAKE_PYTHON)
        self.tool('g++', FAKE_COMPILER)
        self.log = folder / 'log'
        self.store = folder / 'home' / '.cache' / 'mmcnnmod'
        script = (ROOT / 'tools' / 'misc' / 'setup_env.sh').read_text()
        self.env = {
            'PATH': str(self.bin),
            'HOME': str(folder / 'home'),
            'SKIP_DISK_CHECK': '1',
            'FAKE_LOG': str(self.log),
            'FAKE_ROOT': str(self.root),
            'FAKE_UV': str(self.tool('fake-uv', FAKE_UV)),
            'FAKE_UV_VERSION': script.partition('UV_PIN=')[2].split()[0],
            'FAKE_VERSION': '3.11',
            'FAKE_LACKS': '',
            'FAKE_TORCH': '9.9.9',
            'FAKE_OPS': 'cpu',
            'FAKE_CLIENT': '',
            'FAKE_SITE': str(folder / 'site'),
            'REAL_PYTHON': sys.executable,
            'REAL_UV': str(find_uv()),
            'FAKE_CXX': GCC,
            'FAKE_STD': 'c++17',
        }

    def tool(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run(self, stack='onedl', **env):
        """Run the script; return the finished process and the logged calls of the fake tools."""
        self.log.write_text('')
        script = str(self.root / 'tools' / 'misc' / 'setup_env.sh')
        done = subprocess.run(
            [str(self.bin / 'bash'), script, stack],
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done, self.log.read_text().splitlines()

    def set_up(self, stack='onedl', **env):
        """Run the script, which must succeed; return its output and the logged calls."""
        done, calls = self.run(stack, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout, calls

    def change_pins(self):
        with (self.root / 'requirements' / 'tests.txt').open('a') as file:
            file.write('# changed\n')

    def torch_pins(self):
        """The installed pins that TORCH changes; without TORCH there is no copy of the pins."""
        files = sorted((self.root / '.venv' / 'requirements').glob('onedl*.txt'))
        lines = (line for file in files for line in file.read_text().splitlines())
        return [line for line in lines if re.match('torch|triton|nvidia|cuda', line)]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def of_kind(calls, kind):
    return [call for call in calls if call.split()[0] == kind]


DISK_OF_3_GB = '#!/usr/bin/env bash\necho header\necho x 9 9 3145728 9 /\n'


@pytest.mark.parametrize(
    ('stack', 'tools', 'env', 'messages'),
    [
        ('openmmlab', {}, {'FAKE_VERSION': '3.12'}, ['3.10 or 3.11', 'python3 is 3.12']),
        ('onedl', {'python3': '#!/usr/bin/env bash\nexit 127\n'}, {}, ['found: none that works']),
        ('onedl', {}, {'FAKE_LACKS': 'dev'}, ['has no Python.h', 'install python3-dev']),
        ('onedl', {}, {'FAKE_LACKS': 'venv'}, ['apt-get install python3-venv python3-dev']),
        ('onedl', {}, {'FAKE_LACKS': 'venv dev'}, ['apt-get install python3-venv python3-dev']),
        ('onedl', {'g++': None}, {}, ['apt-get install g++']),
        ('onedl', {'df': DISK_OF_3_GB}, {'SKIP_DISK_CHECK': ''}, ['3 GB free']),
        ('tensorflow', {}, {}, ["'tensorflow'"]),
        ('none', {'python3': None}, {}, ['no active python']),
    ],
)
def test_unsuitable_machine_gives_one_line_and_changes_nothing(
    machine, stack, tools, env, messages
):
    for name, text in tools.items():
        (machine.bin / name).unlink()
        if text:
            machine.tool(name, text)
    done, calls = machine.run(stack, **env)
    assert done.returncode == 1, done.stdout
    assert done.stderr.count('\n') == 1
    assert all(message in done.stderr for message in messages)
    assert calls == []


def test_next_python_is_used_if_the_first_does_not_suit_the_stack(machine):
    machine.tool('python3.11', FAKE_PYTHON)
    machine.tool('python3', FAKE_PYTHON.replace('$FAKE_VERSION', '3.12'))
    output, _ = machine.set_up('openmmlab')
    assert 'python3.11 is Python 3.11' in output


def test_second_run_does_nothing(machine):
    _, calls = machine.set_up()
    assert calls[:2] == ['venv', 'uv']
    assert calls[-1] == 'proof'

    output, calls = machine.set_up()
    assert 'up to date' in output
    assert calls == []


@pytest.mark.parametrize('torch', ['', '2.99.1'])
def test_changed_pin_updates_the_environment_and_keeps_its_torch(machine, torch):
    machine.set_up(TORCH=torch)
    assert machine.set_up()[1] == []
    machine.change_pins()
    _, calls = machine.set_up()
    assert not of_kind(calls, 'venv')
    assert of_kind(calls, 'uv')
    assert ('torch==2.99.1' in machine.torch_pins()) == bool(torch)


@pytest.mark.parametrize(
    'cause', ['no stamp', 'moved', 'broken python', 'other python', 'other torch']
)
def test_environment_is_recreated(machine, cause):
    machine.set_up()
    (machine.root / '.venv' / 'left-over').touch()
    env = {}
    if cause == 'no stamp':  # as after an interrupted set-up
        (machine.root / '.venv' / '.set-up').unlink()
    elif cause == 'moved':
        machine.root = machine.root.rename(machine.root.with_name('elsewhere'))
    elif cause == 'broken python':
        (machine.root / '.venv' / 'bin' / 'python').write_text('#!/nowhere\n')
    elif cause == 'other python':
        env['FAKE_VERSION'] = '3.10'
        (machine.root / '.venv' / '.set-up').write_text('3.11.7 elsewhere 0\n')
    else:
        env['TORCH'] = '2.99.1'
    _, calls = machine.set_up(**env)
    assert of_kind(calls, 'venv')
    assert not (machine.root / '.venv' / 'left-over').exists()


def test_interrupted_update_recreates_the_environment(machine):
    machine.set_up()
    pins = machine.root / 'requirements' / 'tests.txt'
    before = pins.read_text()
    machine.change_pins()
    shutil.rmtree(machine.store)
    (machine.root / 'uncompilable').touch()
    assert machine.run()[0].returncode == 1
    pins.write_text(before)
    (machine.root / 'uncompilable').unlink()
    _, calls = machine.set_up()
    assert of_kind(calls, 'venv')


def test_missing_links_of_the_editable_install_are_restored(machine):
    machine.set_up()
    shutil.rmtree(machine.root / 'mmcnnmod' / '.mim')
    machine.set_up()
    assert (machine.root / 'mmcnnmod' / '.mim' / 'configs').is_symlink()


def test_next_environment_uses_the_stored_mmcv(machine):
    _, calls = machine.set_up()
    (compile_call,) = of_kind(calls, 'compile')
    assert '--no-build-isolation' in compile_call
    (folder,) = machine.store.iterdir()
    assert folder.name.startswith('onedl-mmcv-2.3.6-torch9.9.9-cpu-py3.11-')

    shutil.rmtree(machine.root / '.venv')
    output, calls = machine.set_up()
    assert not of_kind(calls, 'compile')
    assert 'nothing to compile' in output


@pytest.mark.parametrize('env', [{'FAKE_TORCH': '9.9.10'}, {'FAKE_OPS': 'cuda13_9.0'}])
def test_stored_mmcv_is_not_used_for_another_torch_or_gpu(machine, env):
    machine.set_up()
    shutil.rmtree(machine.root / '.venv')
    _, calls = machine.set_up(**env)
    assert ' gpus=visible ' in of_kind(calls, 'compile')[0]
    assert len(list(machine.store.iterdir())) == 2


@pytest.mark.parametrize(
    ('compiler', 'precompiled'), [(GCC, True), ('Some clang version 14.0.6', False)]
)
def test_mmcv_is_compiled_without_debug_information(machine, compiler, precompiled):
    machine.set_up(FAKE_CXX=compiler, CFLAGS='-DOF_USER')
    flags, _, headers = (machine.root / 'compiled').read_text().splitlines()
    assert flags.split()[:3] == ['-DOF_PYTHON', '-g0', '-DOF_USER']
    assert ('-include' in flags) == precompiled
    assert ('*' not in headers) == precompiled
    assert not list((machine.root / '.venv').rglob('*.gch'))


@pytest.mark.parametrize('standard', ['c++17', 'c++20', 'c++23'])
def test_mmcv_is_compiled_with_the_cxx_standard_of_torch(machine, standard):
    machine.set_up(FAKE_STD=standard)
    assert f'-std={standard}' in (machine.root / 'compiled').read_text()


def test_compiler_too_old_for_torch(machine):
    done, calls = machine.run(FAKE_STD='c++99')
    assert done.returncode == 1
    assert not of_kind(calls, 'compile')
    assert '#error wrong C++ standard' in done.stderr
    assert '.venv/mmcv-build/log' in done.stderr.splitlines()[-1]


def test_announced_time_depends_on_machine_and_jobs(machine):
    def announced(seconds, jobs):
        slow = FAKE_COMPILER.replace('touch', f'sleep {seconds}; touch')
        machine.tool('g++', slow)
        shutil.rmtree(machine.root / '.venv', ignore_errors=True)
        shutil.rmtree(machine.store, ignore_errors=True)
        output, _ = machine.set_up(MAX_JOBS=str(jobs))
        return int(re.search(r'takes about (\d+) s', output).group(1))

    assert announced(2, 1) > announced(2, 2) > announced(0, 2)
    assert announced(2, 64) >= 6  # the longest file


def test_stored_mmcv_that_does_not_load_is_replaced(machine):
    machine.set_up()
    (wheel,) = machine.store.glob('*/*.whl')
    wheel.rename(wheel.with_name('mmcv-0-of-another-torch.whl'))
    (machine.root / 'broken').touch()
    shutil.rmtree(machine.root / '.venv')

    output, calls = machine.set_up()
    assert 'undefined symbol' in output
    assert len(of_kind(calls, 'compile')) == 1
    assert len([call for call in calls if '--reinstall-package onedl-mmcv' in call]) == 2
    assert list(machine.store.glob('*/*.whl')) == [wheel]


def test_failed_compilation_can_be_repeated(machine):
    (machine.root / 'uncompilable').touch()
    done, _ = machine.run()
    assert done.returncode == 1
    *_, error, line = done.stderr.splitlines()
    assert error == 'compiler error'
    assert '.venv/mmcv-build/log' in line
    assert not (machine.root / '.venv' / 'mmcv-build' / 'tmp').exists()
    assert not (machine.root / '.venv' / '.set-up').exists()
    assert not machine.store.exists()

    (machine.root / 'uncompilable').unlink()
    machine.set_up()


def test_interrupted_compilation_removes_precompiled_headers(machine):
    machine.tool('g++', FAKE_COMPILER.replace('touch "${@: -1}"', 'touch "${@: -1}"; sleep 50'))
    script = str(machine.root / 'tools' / 'misc' / 'setup_env.sh')
    process = subprocess.Popen(
        [str(machine.bin / 'bash'), script], env=machine.env, start_new_session=True,
        # A shell ignores SIGINT in processes that it starts in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    tmp = machine.root / '.venv' / 'mmcv-build' / 'tmp'
    begin = time.monotonic()
    while not (tmp / 'torch.h.gch').exists():
        assert time.monotonic() - begin < 20
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) != 0
    assert not tmp.exists()


@pytest.fixture(params=['pip', 'uv'])
def publish(request, machine, tmp_path):
    """Configures a folder as the index of pip or uv; returns a function that adds a wheel to it."""
    client = request.param
    if not (importlib.util.find_spec('pip') if client == 'pip' else find_uv()):
        pytest.skip(f'{client} is not installed')
    folder = tmp_path / 'index'
    folder.mkdir()
    pip_config, uv_config = tmp_path / 'pip.conf', tmp_path / 'uv.toml'
    pip_config.write_text(f'[global]\nno-index = true\nfind-links = {folder}\n')
    uv_config.write_text(f'no-index = true\nfind-links = ["{folder}"]\n')
    # uv installs the dependencies of mmcv even if pip downloads mmcv itself.
    machine.env |= {'FAKE_CLIENT': client, 'UV_CONFIG_FILE': str(uv_config)}
    if client == 'pip':
        machine.env['PIP_CONFIG_FILE'] = str(pip_config)

    def publish(tags, version='2.3.6+torch9', name='onedl-mmcv', requires='onedl-mmengine'):
        stem = f'{name.replace("-", "_")}-{version}'
        metadata = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        if requires:
            publish('py3-none-any', '0.10.12', requires, None)
            metadata += f'Requires-Dist: {requires}\n'
        kind = f'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n'
        with zipfile.ZipFile(folder / f'{stem}-{tags}.whl', 'w') as wheel:
            wheel.writestr(f'{name[6:]}/published.py', '')
            wheel.writestr(f'{stem}.dist-info/METADATA', metadata)
            wheel.writestr(f'{stem}.dist-info/WHEEL', kind)
            wheel.writestr(f'{stem}.dist-info/RECORD', '')

    return publish


def test_wheel_from_a_configured_index_is_installed(machine, publish):
    publish('py3-none-any')
    output, calls = machine.set_up()
    assert not of_kind(calls, 'compile')
    assert 'nothing to compile' in output
    for package in ('mmcv', 'mmengine'):
        assert Path(machine.env['FAKE_SITE'], package, 'published.py').exists()


@pytest.mark.parametrize(
    ('wheel', 'broken'),
    [
        (('cp27-none-any',), False),
        (('py3-none-any', '2.3.5'), False),
        (('py3-none-any', '2.4.0'), False),
        (('py3-none-any',), True),
    ],
)
def test_mmcv_is_compiled_if_the_wheel_does_not_fit_or_work(machine, publish, wheel, broken):
    publish(*wheel)
    if broken:
        (machine.root / 'broken').touch()
    output, calls = machine.set_up()
    assert len(of_kind(calls, 'compile')) == 1
    assert ('undefined symbol' in output) == broken


def test_another_torch_replaces_the_pins(machine):
    _, calls = machine.set_up(TORCH='2.99.1')
    assert set(machine.torch_pins()) == {'torch==2.99.1', 'torchvision'}
    installs = [call for call in of_kind(calls, 'uv') if ' -r ' in call]
    assert installs
    assert all(' requirements/' not in call for call in installs)


def test_gpu_without_the_cuda_toolkit_gives_a_warning(machine):
    output, calls = machine.set_up(FAKE_OPS='nvcc-missing')
    assert 'WARNING' in output
    assert 'CUDA 13' in output
    assert ' gpus= ' in of_kind(calls, 'compile')[0]


def test_stack_none_installs_only_the_plugin(machine):
    python = machine.tool('python', FAKE_PYTHON)
    output, calls = machine.set_up('none')
    assert calls == ['pip -m pip install --no-deps -e . --no-build-isolation']
    assert str(python) in output
    assert not (machine.root / '.venv').exists()


@pytest.mark.parametrize(
    ('stack', 'python'),
    [
        ('onedl', '.venv/bin/python'),
        ('openmmlab', '.venv-openmmlab/bin/python'),
        ('none', '/some/python'),
    ],
)
@pytest.mark.skipif(not shutil.which('make'), reason='no make')
def test_makefile_has_the_same_stacks(stack, python):
    done = subprocess.run(
        ['make', '-n', 'smoke', f'STACK={stack}', 'PYTHON=/some/python', 'TORCH=2.99.1'],
        cwd=ROOT,
        env={'PATH': os.environ['PATH']},
        capture_output=True,
        text=True,
    )
    assert f'"{python}" -m pytest -m smoke' in done.stdout
    assert f"TORCH='2.99.1' tools/misc/setup_env.sh '{stack}'" in done.stdout
