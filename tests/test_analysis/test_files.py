"""JSON files and folders."""

import pytest

from mmcnnmod.analysis.files import check_folder, read_json, write_json
from mmcnnmod.errors import UserError


def test_a_folder_that_is_not_there_is_named(tmp_path):
    check_folder(tmp_path / 'a.txt')
    check_folder(None)
    with pytest.raises(UserError, match=r'there is no folder .*none'):
        check_folder(tmp_path / 'none' / 'a.txt')


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / 'a.json'
    write_json(path, {'name': 'ü', 'values': [1, None]})
    assert read_json(path, {'name': str, 'values': list}) == {'name': 'ü', 'values': [1, None]}
    assert list(tmp_path.iterdir()) == [path]
