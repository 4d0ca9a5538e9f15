"""The wheel and the sdist, built offline from a copy of the source tree."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip('build', reason='in requirements/tests.txt')

ROOT = Path(__file__).resolve().parents[1]
MIM_ENTRIES = ('configs', 'tools', 'model-index.yml')
# The tools that the wheel leaves out.
REPOSITORY_TOOLS = {
    'experiments', 'evidence', 'train_seeds.py', 'measure_speed.sh', 'sweep_upstream_configs.py',
    'write_metafile.py',
}  # fmt: skip
# Not copied from a tree without git, such as that in the Docker image.
LEFT_OUT = ('.git', '.venv*', '__pycache__', '*.egg-info', '.mim', 'build', 'dist', 'data',
            'work_dirs', '.*_cache', '.hypothesis')  # fmt: skip


def copy_tree(target):
    """Copy all files that are or could be committed: no environments, caches or built files."""
    names = []
    if shutil.which('git'):
        listing = subprocess.run(
            ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        names = [name for name in listing.stdout.split('\0') if name and (ROOT / name).is_file()]
    if not names:
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return target


def run_python(*args, cwd):
    done = subprocess.run([sys.executable, *args], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The source tree, the wheel from it, the sdist, and the wheel from the sdist."""
    folder = tmp_path_factory.mktemp('packaging')
    tree = copy_tree(folder / 'tree')
    # Left over from an earlier build and an editable install; no package may contain them.
    stale = tree / 'build' / 'lib' / 'mmcnnmod' / '.mim' / 'tools'
    stale.mkdir(parents=True)
    (stale / 'stale.py').touch()
    (tree / 'mmcnnmod' / '.mim').mkdir()
    (tree / 'mmcnnmod' / '.mim' / 'configs').symlink_to('../../configs')

    direct, through = folder / 'direct', folder / 'through'
    run_python('-m', 'build', '--no-isolation', '--wheel', '--outdir', str(direct), cwd=tree)
    # Without --wheel: the sdist, then a wheel from that sdist.
    run_python('-m', 'build', '--no-isolation', '--outdir', str(through), cwd=tree)
    (wheel,), (sdist,), (second,) = (
        list(direct.glob('*.whl')), list(through.glob('*.tar.gz')), list(through.glob('*.whl'))
    )  # fmt: skip
    return tree, contents(wheel), sdist, contents(second)


def mim_files(tree):
    """The content of each file that belongs in .mim, by path."""
    files = {}
    for entry in MIM_ENTRIES:
        path = tree / entry
        for file in [path] if path.is_file() else path.rglob('*'):
            if entry == 'tools' and REPOSITORY_TOOLS & set(file.relative_to(tree).parts):
                continue
            if file.is_file() and '__pycache__' not in file.parts:
                files[file.relative_to(tree).as_posix()] = file.read_bytes()
    return files


def test_wheel_contains_configs_tools_and_model_index(built):
    tree, wheel, _, _ = built
    prefix = 'mmcnnmod/.mim/'
    packaged = {
        name.removeprefix(prefix): data for name, data in wheel.items() if name.startswith(prefix)
    }
    assert packaged == mim_files(tree)
    assert {name.split('/')[0] for name in packaged} == set(MIM_ENTRIES)
    assert {'tools/train.py', 'configs/experiments/smoke.yml'} <= set(packaged)


def test_wheel_contains_only_the_package(built):
    tree, wheel, _, _ = built
    tops = {name.split('/')[0] for name in wheel if '.dist-info/' not in name}
    assert tops == {'mmcnnmod'}
    files = {path.relative_to(tree).as_posix() for path in (tree / 'mmcnnmod').rglob('*.*')
             if path.suffix in ('.py', '.json', '.cpp') and '.mim' not in path.parts}  # fmt: skip
    assert 'mmcnnmod/analysis/paper_tables.json' in files
    assert 'mmcnnmod/ops/mod_block.cpp' in files
    assert files <= set(wheel)


def test_wheel_from_sdist_is_equal(built):
    _, wheel, _, second = built
    assert second == wheel


def test_sdist_contains_the_sources(built):
    tree, _, sdist, _ = built
    with tarfile.open(sdist) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert set(mim_files(tree)) <= names
    assert {'LICENSE', 'Makefile', 'requirements/onedl-constraints.txt'} <= names
    assert not [name for name in names if '.mim' in name or name.endswith('.pyc')]


def test_metadata_and_extras(built):
    _, wheel, _, _ = built
    (name,) = (name for name in wheel if name.endswith('.dist-info/METADATA'))
    metadata = email.message_from_bytes(wheel[name])
    assert metadata['Name'] == 'mmcnnmod'
    assert metadata['Requires-Python'] == '>=3.10'
    assert (metadata['License'] or metadata['License-Expression']) == 'Apache-2.0'
    version = (ROOT / 'mmcnnmod' / 'version.py').read_text()
    assert f"'{metadata['Version']}'" in version
    required = metadata.get_all('Requires-Dist') or []
    # `pip install .` must not replace an installed torch or mmcv, so only extras have packages.
    assert [line for line in required if 'extra ==' not in line] == []
    assert [line for line in required if line.startswith(('torch', 'setuptools', 'ninja'))] == []
    assert set(metadata.get_all('Provides-Extra')) == {'onedl', 'openmmlab', 'tests', 'runtimes'}
    for extra, package in [('onedl', 'onedl-mmcv==2.3.6'), ('openmmlab', 'mmcv==2.1.0')]:
        (line,) = (line.replace('"', "'") for line in required if line.startswith(package))
        assert line.endswith(f"extra == '{extra}'")


def test_editable_install_links_to_the_sources(built, tmp_path):
    tree = copy_tree(tmp_path / 'tree')
    code = "import sys; from setuptools.build_meta import build_editable; build_editable('..')"
    run_python('-c', code, cwd=tree)
    for entry in MIM_ENTRIES:
        link = tree / 'mmcnnmod' / '.mim' / entry
        # Relative, so that the links are valid after a move of the checkout.
        assert os.readlink(link) == f'../../{entry}'
        assert link.exists()
