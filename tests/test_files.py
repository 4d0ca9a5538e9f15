"""Files are complete or absent."""

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from mmcnnmod.errors import UserError
from mmcnnmod.files import PARTIAL, atomic_write, remove_partials


@pytest.fixture
def events(monkeypatch):
    """The calls of os.fsync and Path.replace, in order."""
    events, replace = [], Path.replace

    def record_replace(path, target):
        events.append(f'rename to {target.name}')
        return replace(path, target)

    monkeypatch.setattr(os, 'fsync', lambda descriptor: events.append('sync'))
    monkeypatch.setattr(Path, 'replace', record_replace)
    return events


def test_file_is_renamed_when_it_is_complete(tmp_path):
    path = tmp_path / 'a.txt'
    with atomic_write(path) as partial:
        partial.write_text('new')
        assert not path.exists()
        assert partial.parent.parent == tmp_path  # on the same file system
        assert partial.parent.match(f'{PARTIAL}*.txt')
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


def test_existing_file_is_kept_if_writing_fails(tmp_path):
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


def test_writing_no_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r'a\.txt cannot be written: No such file'):  # noqa: SIM117
        with atomic_write(tmp_path / 'new' / 'a.txt'):
            pass
    assert not list(tmp_path.iterdir())  # the new folder was removed


def test_folder_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'file/a\.txt cannot be written: '):
        atomic_write(tmp_path / 'file' / 'a.txt').__enter__()


def test_the_named_file_is_moved_last(tmp_path, events):
    with atomic_write(tmp_path / 'new' / 'graph.xml') as partial:
        partial.write_text('graph')
        partial.with_suffix('.bin').write_text('weights')
    moves = [event for event in events if event != 'sync']
    assert moves == ['rename to graph.bin', 'rename to graph.xml']
    assert (tmp_path / 'new' / 'graph.bin').read_text() == 'weights'
    assert len(list((tmp_path / 'new').iterdir())) == 2


def test_last_of_two_writers_wins(tmp_path):
    path = tmp_path / 'a.txt'
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text('first')
        second.write_text('second')
    assert path.read_text() == 'first'  # its block ends last
    assert list(tmp_path.iterdir()) == [path]


def test_file_is_synchronised_before_it_is_renamed(tmp_path, events):
    with atomic_write(tmp_path / 'a.txt') as partial:
        partial.write_text('new')
        assert events == []
    assert events == ['sync', 'rename to a.txt', 'sync']  # at last the folder


@pytest.mark.parametrize(('code', 'ignored'), [(errno.EINVAL, True), (errno.EIO, False)])
def test_file_systems_need_not_synchronise_folders(tmp_path, monkeypatch, code, ignored):
    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'fsync', sync)
    with nullcontext() if ignored else pytest.raises(UserError, match='cannot be written: Input'):  # noqa: SIM117
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
