"""Reading the output of a training and a test, and the utilisation of the GPU."""

import pytest
from subprocess_runner import RunFailed
from training import busy_percent, logged, read_scores, watched_gpu


@pytest.mark.parametrize(
    ('line', 'left'),
    [
        ('Epoch(train) [1][ 2/10]  lr: 5e-02  eta: 0:01:30  time: 1.6', '0:01:30 left'),
        ('Iter(train) [ 20/400]  eta: 1 day, 2:00:01  time: 1.6', '1 day, 2:00:01 left'),
        ('Epoch(val) [1][2/10]  eta: 0:01:30', None),
        ('nothing', None),
    ],
)
def test_remaining_time_is_read_from_a_line(tmp_path, monkeypatch, capsys, line, left):
    shown = []
    monkeypatch.setattr('rich.status.Status.update', lambda self, text: shown.append(text))
    with logged('a run', tmp_path / 'train.log') as show:
        show(f'{line}\n')
    assert shown == ([left] if left else [])
    assert (tmp_path / 'train.log').read_text() == f'{line}\n'
    assert capsys.readouterr().out == 'a run\n'


def test_missing_score_of_a_test_raises_an_error_with_its_scores(tmp_path):
    path = tmp_path / 'metrics.json'
    path.write_text('{"mIoU": 3.5, "aAcc": 4, "classes": []}')
    assert read_scores(path, 'mIoU') == dict(score=3.5, metrics={'mIoU': 3.5, 'aAcc': 4})
    words = 'returns no top1, but mIoU, aAcc; choose one with --metric'
    with pytest.raises(RunFailed, match=words):
        read_scores(path, 'top1')


def test_utilisation_ignores_zeros_at_the_start():
    assert busy_percent('0\n0\n90\n0\n80\n100\n') == 85
    assert busy_percent('0\n[N/A]\n') is None


def test_utilisation_is_not_measured_on_a_cpu():
    with watched_gpu('cpu') as result:
        pass
    assert result == {}
