"""What tools/misc/setup_env.sh decides, run with fake tools on an otherwise empty PATH."""

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

# Tells the calls apart by their arguments and writes each into the log. FAKE_VERSION is the Python
# it plays, FAKE_LACKS what that lacks, FAKE_OPS what mmcv can be compiled for. While the file
# `broken` exists mmcv does not load, until it has been compiled again. Indexes are asked by the
# real FAKE_CLIENT, pip or uv; without one there is nothing in them. What a compile saw of the
# source, the flags and the compiled headers goes into the file `compiled`.
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
        echo 'c++ said no'
        [[ ! -e $FAKE_ROOT/uncompilable ]] || exit 1
        while [[ $1 != -w ]]; do shift; done
        { echo "$CFLAGS"; cat "$2/source/setup.py"; echo "$2"/*.gch; } >"$FAKE_ROOT/compiled"
        touch "$2/mmcv-0-py3.whl"
        rm -f "$FAKE_ROOT/broken" ;;
    *'pip install'*) note "pip $*" ;;
    *get_config_vars*) printf '%s\n' '-DOF_PYTHON' 'torch/include' ;;
    *cpp_extension*) echo "$FAKE_OPS 9.9.9 13" ;;
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


# A compiler of FAKE_CXX's making, for a torch whose headers ask for FAKE_STD.
FAKE_COMPILER = r"""#!/usr/bin/env bash
case "$*" in
    --version) echo "$FAKE_CXX" ;;
    *-std=$FAKE_STD*) touch "${@: -1}" ;;
    *) echo '#error C++ of another year' && exit 1 ;;
esac
"""
GCC = 'g++ 12, Copyright (C) 2022 Free Software Foundation, Inc.'


def find_uv():
    ours = Path(sys.executable).with_name('uv')  # where set-up puts it
    return ours if ours.exists() else shutil.which('uv')


def has_client(name):
    return bool(importlib.util.find_spec('pip') if name == 'pip' else find_uv())


class Machine:
    """A checkout, a home and a PATH of its own, in a temporary folder."""

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
        path.write_text(text or '#!/usr/bin/env bash\n')
        path.chmod(0o755)
        return path

    def run(self, stack='onedl', **env):
        """Runs the script; returns the finished process and the calls it made of the fakes."""
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

    def refuses(self, stack='onedl', **env):
        """Runs the script, which must exit with 1 after one line of complaint; returns the line."""
        done, calls = self.run(stack, **env)
        assert done.returncode == 1, done.stdout
        assert done.stderr.count('\n') == 1
        assert calls == []
        return done.stderr


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def of(calls, kind):
    return [call for call in calls if call.split()[0] == kind]


def test_python_too_new_for_the_stack(machine):
    line = machine.refuses('openmmlab', FAKE_VERSION='3.12')
    assert '3.10 or 3.11' in line
    assert 'python3 is 3.12' in line


def test_later_candidate_suits_the_stack(machine):
    machine.tool('python3.11', FAKE_PYTHON)
    machine.tool('python3', FAKE_PYTHON.replace('$FAKE_VERSION', '3.12'))
    done, _ = machine.run('openmmlab')
    assert done.returncode == 0, done.stderr
    assert 'python3.11 is Python 3.11' in done.stdout


def test_python_that_does_not_run_is_passed_over(machine):
    machine.tool('python3', '#!/usr/bin/env bash\nexit 127\n')
    assert 'found: none that works' in machine.refuses()


@pytest.mark.parametrize(
    ('lacks', 'remedy'),
    [
        ('venv', 'apt-get install python3-venv python3-dev'),
        ('dev', 'apt-get install python3-dev'),
        ('venv dev', 'apt-get install python3-venv python3-dev'),
    ],
)
def test_incomplete_python(machine, lacks, remedy):
    assert remedy in machine.refuses(FAKE_LACKS=lacks)


def test_no_compiler(machine):
    (machine.bin / 'g++').unlink()
    assert 'apt-get install g++' in machine.refuses()


def test_full_disk(machine):
    (machine.bin / 'df').unlink()
    machine.tool('df', '#!/usr/bin/env bash\necho header\necho x 9 9 3145728 9 /\n')
    assert '3 GB free' in machine.refuses(SKIP_DISK_CHECK='')


def test_unknown_stack(machine):
    assert "'tensorflow'" in machine.refuses('tensorflow')


def test_second_run_does_nothing(machine):
    done, calls = machine.run()
    assert done.returncode == 0, done.stderr
    assert calls[:2] == ['venv', 'uv']
    assert calls[-1] == 'proof'

    done, calls = machine.run()
    assert done.returncode == 0
    assert 'up to date' in done.stdout
    assert calls == []


def test_changed_pin_is_installed_into_the_same_environment(machine):
    machine.run()
    with (machine.root / 'requirements' / 'tests.txt').open('a') as file:
        file.write('# changed\n')
    done, calls = machine.run()
    assert done.returncode == 0, done.stderr
    assert not of(calls, 'venv')
    assert of(calls, 'uv')


@pytest.mark.parametrize('harm', ['no stamp', 'moved', 'dead python', 'other version'])
def test_environment_is_made_anew(machine, harm):
    machine.run()
    (machine.root / '.venv' / 'left-over').touch()
    env = {}
    if harm == 'no stamp':  # what an interrupted set-up leaves
        (machine.root / '.venv' / '.set-up').unlink()
    elif harm == 'moved':
        machine.root = machine.root.rename(machine.root.with_name('elsewhere'))
    elif harm == 'dead python':
        (machine.root / '.venv' / 'bin' / 'python').write_text('#!/nowhere\n')
    else:
        env['FAKE_VERSION'] = '3.10'
        (machine.root / '.venv' / '.set-up').write_text('3.11.7 elsewhere 0\n')
    done, calls = machine.run(**env)
    assert done.returncode == 0, done.stderr
    assert of(calls, 'venv')
    assert not (machine.root / '.venv' / 'left-over').exists()


def test_interrupted_update_is_not_taken_for_done(machine):
    machine.run()
    pins = machine.root / 'requirements' / 'tests.txt'
    before = pins.read_text()
    pins.write_text(before + '# changed\n')
    shutil.rmtree(machine.store)
    (machine.root / 'uncompilable').touch()
    assert machine.run()[0].returncode == 1
    pins.write_text(before)
    (machine.root / 'uncompilable').unlink()
    done, calls = machine.run()
    assert done.returncode == 0, done.stderr
    assert of(calls, 'venv')


def test_missing_links_of_the_editable_install_are_made_anew(machine):
    machine.run()
    shutil.rmtree(machine.root / 'mmcnnmod' / '.mim')
    done, _ = machine.run()
    assert done.returncode == 0, done.stderr
    assert (machine.root / 'mmcnnmod' / '.mim' / 'configs').is_symlink()


def test_compiled_mmcv_is_kept_for_the_next_checkout(machine):
    _, calls = machine.run()
    (compile_call,) = of(calls, 'compile')
    assert '--no-build-isolation' in compile_call
    (folder,) = machine.store.iterdir()
    assert folder.name.startswith('onedl-mmcv-2.3.6-torch9.9.9-cpu-py3.11-')

    shutil.rmtree(machine.root / '.venv')
    done, calls = machine.run()
    assert not of(calls, 'compile')
    assert 'nothing to compile' in done.stdout


@pytest.mark.parametrize(
    ('compiler', 'precompiled'), [(GCC, True), ('Some clang version 14.0.6', False)]
)
def test_mmcv_is_compiled_without_debug_information(machine, compiler, precompiled):
    done, _ = machine.run(FAKE_CXX=compiler, CFLAGS='-DOF_USER')
    assert done.returncode == 0, done.stderr
    flags, _, headers = (machine.root / 'compiled').read_text().splitlines()
    assert flags.split()[:3] == ['-DOF_PYTHON', '-g0', '-DOF_USER']
    assert ('-include' in flags) == precompiled
    assert ('*' not in headers) == precompiled
    assert not list((machine.root / '.venv').rglob('*.gch'))


@pytest.mark.parametrize('standard', ['c++17', 'c++20', 'c++23'])
def test_mmcv_is_compiled_as_the_cxx_that_torch_asks_for(machine, standard):
    done, _ = machine.run(FAKE_STD=standard)
    assert done.returncode == 0, done.stderr
    assert f'-std={standard}' in (machine.root / 'compiled').read_text()


def test_compiler_too_old_for_torch(machine):
    done, calls = machine.run(FAKE_STD='c++99')
    assert done.returncode == 1
    assert not of(calls, 'compile')
    assert '#error C++ of another year' in done.stderr
    assert '.venv/mmcv-build/log' in done.stderr.splitlines()[-1]


def test_announced_time_is_scaled_by_machine_and_jobs(machine):
    def announced(seconds, jobs):
        slow = FAKE_COMPILER.replace('touch', f'sleep {seconds}; touch')
        machine.tool('g++', slow)
        shutil.rmtree(machine.root / '.venv', ignore_errors=True)
        shutil.rmtree(machine.store, ignore_errors=True)
        done, _ = machine.run(MAX_JOBS=str(jobs))
        return int(re.search(r'takes about (\d+) s', done.stdout).group(1))

    assert announced(2, 1) > announced(2, 2) > announced(0, 2)
    assert announced(2, 64) >= 6  # the longest file


def test_kept_mmcv_is_not_used_for_another_torch(machine):
    machine.run()
    shutil.rmtree(machine.root / '.venv')
    machine.tool('python3', FAKE_PYTHON.replace('9.9.9', '9.9.10'))
    _, calls = machine.run()
    assert of(calls, 'compile')


def test_mmcv_that_does_not_load_is_compiled_without_cache(machine):
    machine.run()
    (wheel,) = machine.store.glob('*/*.whl')
    wheel.rename(wheel.with_name('mmcv-0-of-another-torch.whl'))
    (machine.root / 'broken').touch()
    shutil.rmtree(machine.root / '.venv')

    done, calls = machine.run()
    assert done.returncode == 0, done.stderr
    assert 'undefined symbol' in done.stdout
    assert len(of(calls, 'compile')) == 1
    assert len([call for call in calls if '--reinstall-package onedl-mmcv' in call]) == 2
    # The next checkout gets the good one.
    assert list(machine.store.glob('*/*.whl')) == [wheel]


def test_failed_compile(machine):
    (machine.root / 'uncompilable').touch()
    done, _ = machine.run()
    assert done.returncode == 1
    *_, said, line = done.stderr.splitlines()
    assert said == 'c++ said no'
    assert '.venv/mmcv-build/log' in line
    assert not (machine.root / '.venv' / 'mmcv-build' / 'tmp').exists()
    assert not (machine.root / '.venv' / '.set-up').exists()
    assert not machine.store.exists()

    (machine.root / 'uncompilable').unlink()
    done, _ = machine.run()
    assert done.returncode == 0, done.stderr


def test_interrupted_compile_leaves_no_compiled_headers(machine):
    machine.tool('g++', FAKE_COMPILER.replace('touch "${@: -1}"', 'touch "${@: -1}"; sleep 50'))
    script = str(machine.root / 'tools' / 'misc' / 'setup_env.sh')
    process = subprocess.Popen(
        [str(machine.bin / 'bash'), script], env=machine.env, start_new_session=True,
        # Ignored by whatever a shell started in the background, and by what that starts.
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
def index(request, machine, tmp_path):
    """Configures a folder as the index of pip or uv; returns what puts a wheel of mmcv into it."""
    if not has_client(request.param):
        pytest.skip(f'no {request.param}')
    folder = tmp_path / 'index'
    folder.mkdir()
    text = {
        'pip': f'[global]\nno-index = true\nfind-links = {folder}\n',
        'uv': f'no-index = true\nfind-links = ["{folder}"]\n',
    }
    config = tmp_path / 'config'
    config.write_text(text[request.param])
    machine.env |= {
        'FAKE_CLIENT': request.param,
        f'{request.param.upper()}_CONFIG_FILE': str(config),
    }

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

    # What mmcv requires comes by uv in either case.
    rest = tmp_path / 'uv.toml'
    rest.write_text(text['uv'])
    machine.env.setdefault('UV_CONFIG_FILE', str(rest))
    return publish


def test_wheel_of_a_configured_index_is_taken(machine, index):
    index('py3-none-any')
    done, calls = machine.run()
    assert done.returncode == 0, done.stderr
    assert not of(calls, 'compile')
    assert 'nothing to compile' in done.stdout
    assert Path(machine.env['FAKE_SITE'], 'mmcv', 'published.py').exists()
    assert Path(machine.env['FAKE_SITE'], 'mmengine', 'published.py').exists()


def test_wheel_of_an_index_has_to_work(machine, index):
    index('py3-none-any')
    (machine.root / 'broken').touch()
    done, calls = machine.run()
    assert done.returncode == 0, done.stderr
    assert len(of(calls, 'compile')) == 1
    assert 'undefined symbol' in done.stdout


@pytest.mark.parametrize(
    'wheel', [('cp27-none-any',), ('py3-none-any', '2.3.5'), ('py3-none-any', '2.4.0')]
)
def test_wheel_of_an_index_has_to_fit(machine, index, wheel):
    index(*wheel)
    done, calls = machine.run()
    assert done.returncode == 0, done.stderr
    assert len(of(calls, 'compile')) == 1


def torch_pins(machine):
    """The lines of the files that the environment was installed from which TORCH has a say in."""
    files = sorted((machine.root / '.venv' / 'requirements').glob('onedl*.txt'))
    lines = (line for file in files for line in file.read_text().splitlines())
    return [line for line in lines if re.match('torch|triton|nvidia|cuda', line)]


def test_another_torch(machine):
    done, calls = machine.run(TORCH='2.99.1')
    assert done.returncode == 0, done.stderr
    assert set(torch_pins(machine)) == {'torch==2.99.1', 'torchvision'}
    installs = [call for call in of(calls, 'uv') if ' -r ' in call]
    assert installs
    assert all(' requirements/' not in call for call in installs)


def test_environment_keeps_its_torch(machine):
    machine.run(TORCH='2.99.1')
    _, calls = machine.run()
    assert calls == []
    with (machine.root / 'requirements' / 'tests.txt').open('a') as file:
        file.write('# changed\n')
    done, calls = machine.run()
    assert done.returncode == 0, done.stderr
    assert not of(calls, 'venv')
    assert 'torch==2.99.1' in torch_pins(machine)


def test_environment_of_another_torch_is_made_anew(machine):
    machine.run()
    (machine.root / '.venv' / 'left-over').touch()
    _, calls = machine.run(TORCH='2.99.1')
    assert of(calls, 'venv')
    assert not (machine.root / '.venv' / 'left-over').exists()


def test_gpu_without_its_toolkit(machine):
    done, calls = machine.run(FAKE_OPS='nvcc-missing')
    assert done.returncode == 0, done.stderr
    assert 'WARNING' in done.stdout
    assert 'CUDA 13' in done.stdout
    assert ' gpus= ' in of(calls, 'compile')[0]


def test_gpu_operators_are_kept_apart(machine):
    machine.run()
    shutil.rmtree(machine.root / '.venv')
    _, calls = machine.run(FAKE_OPS='cuda13_9.0')
    assert ' gpus=visible ' in of(calls, 'compile')[0]
    assert len(list(machine.store.iterdir())) == 2


def test_stack_none_installs_the_plugin_only(machine):
    python = machine.tool('python', FAKE_PYTHON)
    done, calls = machine.run('none')
    assert done.returncode == 0, done.stderr
    assert calls == ['pip -m pip install --no-deps -e . --no-build-isolation']
    assert str(python) in done.stdout
    assert not (machine.root / '.venv').exists()


def test_no_active_python(machine):
    (machine.bin / 'python3').unlink()
    assert 'no active python' in machine.refuses('none')


@pytest.mark.parametrize(
    ('stack', 'python'),
    [
        ('onedl', '.venv/bin/python'),
        ('openmmlab', '.venv-openmmlab/bin/python'),
        ('none', '/some/python'),
    ],
)
@pytest.mark.skipif(not shutil.which('make'), reason='no make')
def test_makefile_knows_the_same_stacks(stack, python):
    done = subprocess.run(
        ['make', '-n', 'smoke', f'STACK={stack}', 'PYTHON=/some/python', 'TORCH=2.99.1'],
        cwd=ROOT,
        env={'PATH': os.environ['PATH']},
        capture_output=True,
        text=True,
    )
    assert f'"{python}" -m pytest -m smoke' in done.stdout
    assert f"TORCH='2.99.1' tools/misc/setup_env.sh '{stack}'" in done.stdout
