import json

import generate_data
import pytest
from synthetic import cityscapes

SMALL = ('--train', '2', '--val', '1', '--size', '64x32')


def make(dest, *more):
    return generate_data.main(['cityscapes', str(dest), *SMALL, *more])


class Broken(Exception):
    """What goes wrong in the middle."""


@pytest.fixture
def broken(monkeypatch):
    """The second scene fails."""

    def draw(split, number, size, seed):
        if number == 1:
            raise Broken
        return real(split, number, size, seed)

    real = cityscapes.draw_scene
    monkeypatch.setattr(cityscapes, 'draw_scene', draw)


def test_failure_leaves_nothing(tmp_path, broken):
    with pytest.raises(Broken):
        make(tmp_path / 'set')
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_old_set(tmp_path, broken, files_of):
    dest = tmp_path / 'set'
    dest.mkdir()
    (dest / 'old.txt').write_text('old')
    with pytest.raises(Broken):
        make(dest, '--overwrite')
    assert files_of(tmp_path) == {'set/old.txt': b'old'}


def test_a_leftover_partial_is_removed(tmp_path):
    leftover = tmp_path / 'set.partial' / 'leftImg8bit'
    leftover.mkdir(parents=True)
    (leftover / 'stale.png').touch()
    assert make(tmp_path / 'set') == 0
    assert not list(tmp_path.rglob('stale.png'))
    assert [p.name for p in tmp_path.iterdir()] == ['set']


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / 'set').mkdir()
    assert make(tmp_path / 'set') == 0
    assert (tmp_path / 'set' / 'generated.json').exists()


def test_a_link_is_followed(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'disk')
    assert make(tmp_path / 'link') == 0
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'disk' / 'generated.json').exists()


def test_the_current_folder_is_never_replaced(tmp_path, monkeypatch, capsys):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'precious').touch()
    monkeypatch.chdir(tmp_path / 'work')
    assert make(tmp_path, '--overwrite') == 2
    assert 'current' in capsys.readouterr().err
    assert (tmp_path / 'precious').exists()


def test_record_names_arguments_seed_and_counts(tmp_path):
    assert make(tmp_path / 'set', '--seed', '7') == 0
    record = json.loads((tmp_path / 'set' / 'generated.json').read_text())
    assert record['arguments'] == {'kind': 'cityscapes', 'size': [64, 32]}
    assert record['seed'] == 7
    assert record['counts'] == {'train': 2, 'val': 1}
    assert 'generate_data' in record['tool']


def test_an_equal_set_is_not_made_again(tmp_path, capsys, monkeypatch):
    dest = tmp_path / 'set'
    assert make(dest) == 0
    with monkeypatch.context() as context:
        context.setattr(cityscapes, 'draw_scene', None)  # calling it would fail
        assert make(dest) == 0
    assert 'already exists' in capsys.readouterr().out
    assert make(dest, '--seed', '1') == 2
    assert make(dest, '--seed', '1', '--overwrite') == 0
    assert json.loads((dest / 'generated.json').read_text())['seed'] == 1


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['cityscapes', '{tmp}/new', '--size', '63x32'], ['63x32', '64x32']),
        (['cityscapes', '{tmp}/new', '--size', 'big'], ['big', '512x256']),
        (['voc', '{tmp}/new', '--train', '0'], ['--train', '0']),
        (['voc', '{tmp}/new', '--seed', '-1'], ['--seed', '-1']),
        (['imagenet', '{tmp}/new', '--classes', '1001', '--train', '2000'], ['1000']),
        (['imagenet', '{tmp}/new', '--classes', '9', '--train', '8'], ['--train', '9']),
        (['cityscapes', '{tmp}/file/new'], ['{tmp}/file/new']),
        (['cityscapes', '{tmp}/file'], ['{tmp}/file']),
        (['cityscapes', '{tmp}/full'], ['{tmp}/full', '--overwrite']),
        (['kitti', '{tmp}/new'], ['kitti']),
    ],
)
def test_bad_calls_end_with_one_line(run_cli, tmp_path, arguments, words):
    (tmp_path / 'file').touch()
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'precious').touch()
    result = run_cli(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert result.returncode == 2
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1
    for word in words:
        assert word.format(tmp=tmp_path) in result.stderr
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['file', 'full', 'precious']


def test_a_good_call(run_cli, tmp_path):
    result = run_cli('voc', tmp_path / 'a' / 'kit', '--train', 2, '--val', 1, '--size', '64x48')
    assert (result.returncode, result.stderr) == (0, '')
    assert 'voc: 8/8 (100%)' in result.stdout
    assert (tmp_path / 'a' / 'kit' / 'VOC2007' / 'ImageSets' / 'Main' / 'cat_train.txt').exists()
