import sys

import pytest
from synthetic.output import OutputError, progress, whole_folder


def test_the_set_appears_in_one_step(tmp_path):
    dest = tmp_path / 'set'
    with whole_folder(dest, {'a': 1}, overwrite=False) as folder:
        (folder / 'file').write_text('x')
        assert folder.parent == dest.parent
        assert folder.name == 'set.partial'
        assert not dest.exists()
    assert sorted(p.name for p in dest.iterdir()) == ['file', 'generated.json']
    assert [p.name for p in tmp_path.iterdir()] == ['set']


def test_the_old_set_stays_until_the_new_one_is_complete(tmp_path):
    dest = tmp_path / 'set'
    dest.mkdir()
    (dest / 'old').touch()
    with whole_folder(dest, {}, overwrite=True) as folder:
        (folder / 'new').touch()
        assert (dest / 'old').exists()
    assert sorted(p.name for p in dest.iterdir()) == ['generated.json', 'new']
    assert [p.name for p in tmp_path.iterdir()] == ['set']


def test_a_failed_swap_puts_the_old_set_back(tmp_path, monkeypatch):
    dest = tmp_path / 'set'
    dest.mkdir()
    (dest / 'old').touch()
    real = type(dest).rename

    def rename(path, target):
        if path.name == 'set.partial':
            raise OSError(28, 'No space left on device')
        return real(path, target)

    monkeypatch.setattr(type(dest), 'rename', rename)
    with pytest.raises(OutputError, match='No space left'), whole_folder(dest, {}, True):
        pass
    assert [p.name for p in tmp_path.rglob('*')] == ['set', 'old']


def test_a_set_caught_between_two_renames_comes_back(tmp_path):
    (tmp_path / 'set.generate-old').mkdir()
    (tmp_path / 'set.generate-old' / 'old').touch()
    with pytest.raises(OutputError, match='--overwrite'), whole_folder(tmp_path / 'set', {}, False):
        pass
    assert (tmp_path / 'set' / 'old').exists()


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
