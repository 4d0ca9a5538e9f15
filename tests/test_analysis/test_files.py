"""Files that are whole or not there."""

import pytest

from mmcnnmod.analysis.files import check_folder, whole_file
from mmcnnmod.errors import UserError


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / 'a.txt'
    with whole_file(path) as partial:
        partial.write_text('new')
        assert not path.exists()
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def fail():
        with whole_file(path) as partial:
            partial.write_text('half')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    check_folder(tmp_path / 'a.txt')
    check_folder(None)
    with pytest.raises(UserError, match=r'there is no folder .*none'):
        check_folder(tmp_path / 'none' / 'a.txt')
