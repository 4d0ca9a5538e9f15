"""Files that are whole or not there."""

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from mmcnnmod.checkpoints import atomic_write
from mmcnnmod.errors import UserError


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / 'a.txt'
    with atomic_write(path) as partial:
        partial.write_text('new')
        assert not path.exists()
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_when_writing_fails(tmp_path):
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
def test_a_file_system_that_keeps_no_list_of_files(tmp_path, monkeypatch, code, fine):
    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'fsync', sync)
    with nullcontext() if fine else pytest.raises(UserError, match='cannot be written: Input'):  # noqa: SIM117
        with atomic_write(tmp_path / 'a.txt') as partial:
            partial.write_text('new')
    assert (tmp_path / 'a.txt').read_text() == 'new'
