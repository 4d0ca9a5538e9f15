"""The file and the tables of a sweep."""

import json

import pytest
from sweep import results as module
from sweep.results import Results, failures, table
from sweep.schedule import OURS, UPSTREAM, WORKS, Entry

from mmcnnmod.errors import UserError

ENTRIES = [
    Entry('mmseg', 'a.py', 'ResNet', 'one'),
    Entry('mmseg', 'b.py', 'ResNet', 'one'),
    Entry('mmseg', 'c.py', 'ResNetV1c', 'two'),
    Entry('mmdet', 'd.py', 'ResNet', 'three'),
    Entry('mmdet', 'e.py', error='KeyError: x (e.py:1)'),
]
WORKED = {'outcome': WORKS, 'seconds': 1}
FAILED = {'outcome': OURS, 'step': 'loss', 'error': 'ValueError: y (f.py:1)', 'seconds': 1}
BOTH = {**FAILED, 'outcome': UPSTREAM, 'dense_step': 'loss', 'dense_error': FAILED['error']}


@pytest.fixture(autouse=True)
def versions(monkeypatch):
    now = {'torch': '2'}
    monkeypatch.setattr(module, 'versions', lambda: dict(now))
    return now


def digests(results):
    return [entry.digest for entry in results.todo()]


def test_later_run_continues_with_the_configs_without_a_result(tmp_path):
    path = tmp_path / 'sweep.json'
    results = Results(ENTRIES, path)
    # Of configs with the same digest only one is tried.
    assert [entry.name for entry in results.todo()] == ['a.py', 'c.py', 'd.py']
    assert not path.exists()
    results.add(ENTRIES[0], WORKED)
    results.add(ENTRIES[2], FAILED)
    assert digests(results) == ['three']
    content = json.loads(path.read_text())
    assert content['results']['one'] == {'tried': 'mmseg/a.py', **WORKED}
    assert content['configs']['mmseg/b.py'] == 'one'
    assert content['configs']['mmdet/e.py'] == ENTRIES[4].error
    assert digests(Results(ENTRIES, path)) == ['three']
    assert digests(Results(ENTRIES, path, retry=True)) == ['two', 'three']


def test_other_versions_ignore_the_file(tmp_path, versions):
    path = tmp_path / 'sweep.json'
    Results(ENTRIES, path).add(ENTRIES[0], WORKED)
    versions['torch'] = '3'
    assert digests(Results(ENTRIES, path)) == ['one', 'two', 'three']


@pytest.mark.parametrize('text', ['', '[]', '{"versions": {}}'])
def test_file_with_other_content_is_kept(text, tmp_path):
    path = tmp_path / 'sweep.json'
    path.write_text(text)
    with pytest.raises(UserError, match=r'sweep\.json does not contain results of a sweep'):
        Results(ENTRIES, path)
    assert path.read_text() == text


def test_results_of_configs_that_are_not_selected_are_kept(tmp_path):
    path = tmp_path / 'sweep.json'
    Results(ENTRIES[:2], path).add(ENTRIES[0], WORKED)
    Results(ENTRIES[2:], path).add(ENTRIES[2], WORKED)
    assert digests(Results(ENTRIES, path)) == ['three']
    assert sorted(json.loads(path.read_text())['configs']) == [
        'mmdet/d.py', 'mmdet/e.py', 'mmseg/a.py', 'mmseg/b.py', 'mmseg/c.py',
    ]  # fmt: skip


def test_table_and_failures():
    results = Results(ENTRIES)
    for entry, result in zip(ENTRIES[1:4], (WORKED, FAILED, BOTH), strict=True):
        results.add(entry, result)
    lines = table(results)
    assert lines[2:] == [
        '| mmdet | ResNet | 1 | 1 | 0 | 1 | 0 | 0 |',
        '| mmdet | all | 1 | 1 | 0 | 1 | 0 | 0 |',
        '| mmseg | ResNet | 2 | 1 | 2 | 0 | 0 | 0 |',
        '| mmseg | ResNetV1c | 1 | 1 | 0 | 0 | 1 | 0 |',
        '| mmseg | all | 3 | 2 | 2 | 0 | 1 | 0 |',
    ]
    text = '\n'.join(failures(results))
    headings = ('Our fault:', 'The dense original', 'Cannot be read')
    ours, upstream, unreadable = (text.index(heading) for heading in headings)
    assert ours < upstream < unreadable
    assert 'dense: works' in text[ours:upstream]
    assert f'dense: loss: `{FAILED["error"]}`' in text[upstream:unreadable]
    assert 'mmdet/e.py: KeyError' in text[unreadable:]
