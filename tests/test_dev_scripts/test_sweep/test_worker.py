"""A worker outlives what its process does not."""

import pytest
from sweep.worker import Worker

from ...utils.sweep_jobs import crash_unless_fresh, job


@pytest.fixture
def worker():
    worker = Worker(job, seconds=300, gigabytes=1)
    yield worker
    worker.stop()


def test_one_process_does_many_jobs_in_silence(worker, capfd):
    assert worker('work') == worker('work')
    assert capfd.readouterr().out == ''


@pytest.mark.parametrize(
    ('what', 'seconds', 'error'),
    [
        ('crash', 300, 'the process died of SIGSEGV'),
        ('leave', 300, 'the process ended with exit code 3'),
        ('grow', 300, 'ended with more than 1 GB of memory'),
        ('hang', 1, 'ended after 1 s'),
    ],
)
def test_a_process_is_replaced(worker, what, seconds, error):
    first = worker('work')
    worker.seconds = seconds
    result = worker(what)
    assert (result['step'], result['error']) == ('process', error)
    worker.seconds = 300
    assert worker('work')['pid'] != first['pid']


def test_an_ended_worker_stays_so(worker):
    worker('work')
    worker.end()
    assert worker('work')['error'] == 'ended with the sweep'


def test_a_job_gets_a_second_chance_in_a_fresh_process():
    worker = Worker(crash_unless_fresh, seconds=300, gigabytes=1)
    first = worker()
    assert 'error' not in (second := worker())
    assert first['pid'] != second['pid']
    worker.stop()
