"""What is read of a training and a test while they run, and what the driver says of the GPU."""

import pytest
from subprocess_runner import RunFailed
from training import busy_percent, logged, scores_of, watched_gpu


@pytest.mark.parametrize(
    ('line', 'left'),
    [
        ('Epoch(train) [1][ 2/10]  lr: 5e-02  eta: 0:01:30  time: 1.6', '0:01:30 left'),
        ('Iter(train) [ 20/400]  eta: 1 day, 2:00:01  time: 1.6', '1 day, 2:00:01 left'),
        ('Epoch(val) [1][2/10]  eta: 0:01:30', None),
        ('nothing', None),
    ],
)
def test_the_time_left_is_read_from_a_line(tmp_path, monkeypatch, capsys, line, left):
    shown = []
    monkeypatch.setattr('rich.status.Status.update', lambda self, text: shown.append(text))
    with logged('a run', tmp_path / 'train.log') as show:
        show(f'{line}\n')
    assert shown == ([left] if left else [])
    assert (tmp_path / 'train.log').read_text() == f'{line}\n'
    assert capsys.readouterr().out == 'a run\n'


def test_a_test_without_the_score_names_those_it_has(tmp_path):
    (tmp_path / 'metrics.json').write_text('{"mIoU": 3.5, "aAcc": 4, "classes": []}')
    numbers = {'mIoU': 3.5, 'aAcc': 4}
    assert scores_of(tmp_path / 'metrics.json', 'mIoU') == dict(score=3.5, metrics=numbers)
    with pytest.raises(
        RunFailed, match='returns no top1, but mIoU, aAcc; choose one with --metric'
    ):
        scores_of(tmp_path / 'metrics.json', 'top1')


def test_the_start_does_not_count_as_idle():
    assert busy_percent('0\n0\n90\n0\n80\n100\n') == 85
    assert busy_percent('0\n[N/A]\n') is None


def test_a_cpu_is_not_watched():
    with watched_gpu('cpu') as found:
        pass
    assert found == {}
