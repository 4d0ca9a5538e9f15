import json
from functools import partial

import generate_data
import pytest
from synthetic import cityscapes

SMALL = ('--train', '2', '--val', '1', '--size', '64x32')


@pytest.fixture
def run_cli(run_python, tmp_path):
    """Run the tool as a user would."""
    return partial(run_python, generate_data.__file__, cwd=tmp_path)


def generate(dest, *more):
    return generate_data.main(['cityscapes', str(dest), *SMALL, *more])


def read_record(dest):
    return json.loads((dest / 'generated.json').read_text())


def read_files(folder):
    paths = [path for path in folder.rglob('*') if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def test_leftovers_of_an_interrupted_run_are_removed(tmp_path):
    leftover = tmp_path / 'set.partial' / 'leftImg8bit'
    leftover.mkdir(parents=True)
    (leftover / 'stale.png').touch()
    assert generate(tmp_path / 'set') == 0
    assert not list(tmp_path.rglob('stale.png'))
    assert [p.name for p in tmp_path.iterdir()] == ['set']


def test_symbolic_link_to_an_empty_folder_is_followed(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'disk')
    assert generate(tmp_path / 'link') == 0
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'disk' / 'generated.json').exists()


def test_current_folder_is_never_replaced(tmp_path, monkeypatch, capsys):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'precious').touch()
    monkeypatch.chdir(tmp_path / 'work')
    assert generate(tmp_path, '--overwrite') == 2
    assert 'current' in capsys.readouterr().err
    assert (tmp_path / 'precious').exists()


def test_record_has_arguments_seed_and_counts(tmp_path):
    assert generate(tmp_path / 'set', '--seed', '7') == 0
    record = read_record(tmp_path / 'set')
    assert record['arguments'] == {'kind': 'cityscapes', 'size': [64, 32]}
    assert record['seed'] == 7
    assert record['counts'] == {'train': 2, 'val': 1}
    assert 'generate_data' in record['tool']


def test_equal_data_set_is_not_generated_again(tmp_path, capsys, monkeypatch):
    dest = tmp_path / 'set'
    assert generate(dest) == 0
    with monkeypatch.context() as context:
        context.setattr(cityscapes, 'draw_scene', None)  # calling it would fail
        assert generate(dest) == 0
    assert 'already exists' in capsys.readouterr().out
    assert generate(dest, '--seed', '1') == 2
    assert generate(dest, '--seed', '1', '--overwrite') == 0
    assert read_record(dest)['seed'] == 1


@pytest.mark.parametrize(
    ('kind', 'options', 'images', 'count'),
    [
        ('cityscapes', [], '*_leftImg8bit.png', 5),
        ('voc', [], '*.jpg', 14),
        ('imagenet', ['--classes', 2], '*.JPEG', 5),
    ],
)
def test_seed_determines_all_files(make_set, kind, options, images, count):
    """All images of a data set differ, and differ from those of another seed."""
    options = ['--train', 3, '--val', 2, *options, '--seed']
    first, same, other = (read_files(make_set(kind, *options, seed)) for seed in (5, 5, 6))
    assert first == same
    contents = [data for x in (first, other) for path, data in x.items() if path.match(images)]
    assert len(contents) == len(set(contents)) == 2 * count


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
def test_bad_arguments_end_with_one_line(run_cli, tmp_path, arguments, words):
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


def test_program_creates_parent_folders_and_prints_progress(run_cli, tmp_path):
    result = run_cli('voc', tmp_path / 'a' / 'kit', '--train', 2, '--val', 1, '--size', '64x48')
    assert (result.returncode, result.stderr) == (0, '')
    assert 'voc: 8/8 (100%)' in result.stdout
    assert (tmp_path / 'a' / 'kit' / 'VOC2007' / 'ImageSets' / 'Main' / 'cat_train.txt').exists()
