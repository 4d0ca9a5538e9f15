import sys

import pytest
from synthetic.output import OutputError, output_folder, progress


@pytest.fixture
def dest(tmp_path):
    """The folder of a data set with one file."""
    dest = tmp_path / 'set'
    dest.mkdir()
    (dest / 'old').touch()
    return dest


def test_data_set_appears_when_complete(tmp_path):
    dest = tmp_path / 'set'
    with output_folder(dest, {'a': 1}, overwrite=False) as folder:
        (folder / 'file').write_text('x')
        assert folder == tmp_path / 'set.partial'
        assert not dest.exists()
    assert sorted(p.name for p in dest.iterdir()) == ['file', 'generated.json']
    assert [p.name for p in tmp_path.iterdir()] == ['set']


def test_old_data_set_stays_until_the_new_one_is_complete(tmp_path, dest):
    with output_folder(dest, {}, overwrite=True) as folder:
        (folder / 'new').touch()
        assert (dest / 'old').exists()
    assert sorted(p.name for p in dest.iterdir()) == ['generated.json', 'new']
    assert [p.name for p in tmp_path.iterdir()] == ['set']


@pytest.mark.parametrize('name', ['set', 'new'])
def test_failure_changes_nothing(tmp_path, dest, name):
    with pytest.raises(KeyError), output_folder(tmp_path / name, {}, True):
        raise KeyError
    assert [p.name for p in tmp_path.rglob('*')] == ['set', 'old']


def test_failed_rename_restores_the_old_data_set(tmp_path, dest, monkeypatch):
    real = type(dest).rename

    def rename(path, target):
        if path.name == 'set.partial':
            raise OSError(28, 'No space left on device')
        return real(path, target)

    monkeypatch.setattr(type(dest), 'rename', rename)
    with pytest.raises(OutputError, match='No space left'), output_folder(dest, {}, True):
        pass
    assert [p.name for p in tmp_path.rglob('*')] == ['set', 'old']


def test_old_data_set_is_restored_after_a_kill_between_two_renames(tmp_path, dest):
    dest.rename(tmp_path / 'set.generate-old')
    with pytest.raises(OutputError, match='--overwrite'), output_folder(dest, {}, False):
        pass
    assert (dest / 'old').exists()


def test_progress_without_a_terminal(capsys):
    assert list(progress(range(40), 'work')) == list(range(40))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0] == 'work: 4/40 (10%)'
    assert lines[-1] == 'work: 40/40 (100%)'


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    assert list(progress(range(5), 'work')) == list(range(5))
    assert '100%' in capsys.readouterr().out
