"""Folders that are there."""

import pytest

from mmcnnmod.analysis.files import check_folder
from mmcnnmod.errors import UserError


def test_a_folder_that_is_not_there_is_named(tmp_path):
    check_folder(tmp_path / 'a.txt')
    check_folder(None)
    with pytest.raises(UserError, match=r'there is no folder .*none'):
        check_folder(tmp_path / 'none' / 'a.txt')
