"""Files that are complete or absent."""

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from mmcnnmod.errors import UserError
from mmcnnmod.files import PARTIAL, atomic_write, remove_partials


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / 'a.txt'
    with atomic_write(path) as partial:
        partial.write_text('new')
        assert not path.exists()
        assert partial.parent.parent == tmp_path  # on the same file system
        assert partial.parent.match(f'{PARTIAL}*.txt')
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_stays_when_writing_fails(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def fail():
        with atomic_write(path) as partial:
            partial.write_text('half')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_not_written_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r'a\.txt cannot be written: No such file'):  # noqa: SIM117
        with atomic_write(tmp_path / 'new' / 'a.txt'):
            pass
    assert not list(tmp_path.iterdir())  # the folder that was made for it is gone


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'file/a\.txt cannot be written: '):
        atomic_write(tmp_path / 'file' / 'a.txt').__enter__()


def test_several_files_of_one_write(tmp_path, monkeypatch):
    moved, rename = [], Path.replace

    def replace(path, target):
        moved.append(target.name)
        return rename(path, target)

    monkeypatch.setattr(Path, 'replace', replace)
    with atomic_write(tmp_path / 'new' / 'graph.xml') as partial:
        partial.write_text('graph')
        partial.with_suffix('.bin').write_text('weights')
    assert moved == ['graph.bin', 'graph.xml']
    assert (tmp_path / 'new' / 'graph.bin').read_text() == 'weights'
    assert len(list((tmp_path / 'new').iterdir())) == 2


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / 'a.txt'
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text('first')
        second.write_text('second')
    assert path.read_text() == 'first'  # its block ends last
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    done, rename = [], Path.replace

    def replace(path, target):
        done.append('renamed')
        return rename(path, target)

    monkeypatch.setattr(os, 'fsync', lambda descriptor: done.append('on the disk'))
    monkeypatch.setattr(Path, 'replace', replace)
    with atomic_write(tmp_path / 'a.txt') as partial:
        partial.write_text('new')
        done.append('written')
    assert done == ['written', 'on the disk', 'renamed', 'on the disk']  # the folder as well


@pytest.mark.parametrize(('code', 'fine'), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_synchronise_folders(tmp_path, monkeypatch, code, fine):
    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'fsync', sync)
    with nullcontext() if fine else pytest.raises(UserError, match='cannot be written: Input'):  # noqa: SIM117
        with atomic_write(tmp_path / 'a.txt') as partial:
            partial.write_text('new')
    assert (tmp_path / 'a.txt').read_text() == 'new'


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    kept = tmp_path / 'a.txt'
    with atomic_write(kept) as partial:
        partial.write_text('new')
    (tmp_path / f'{PARTIAL}b.txt').touch()
    (tmp_path / f'{PARTIAL}c.txt').mkdir()
    (tmp_path / f'{PARTIAL}c.txt' / 'c.txt').touch()
    other = tmp_path / f'{PARTIAL}d.md'
    other.mkdir()
    remove_partials(tmp_path, '.txt')
    assert sorted(tmp_path.iterdir()) == sorted([kept, other])
    remove_partials(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]
