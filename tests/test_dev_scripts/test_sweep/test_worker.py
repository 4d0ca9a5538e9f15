"""A worker outlives what its processes do not."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from sweep import worker as module
from sweep.worker import Worker

from ...utils.sweep_jobs import count_calls, job


@pytest.fixture
def worker():
    return Worker(job, seconds=300, gigabytes=1)


def test_jobs_are_silent(worker, capfd):
    assert worker('work')['pid'] != worker('work')['pid']
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
    worker.seconds = seconds
    result = worker(what)
    assert (result['step'], result['error']) == ('process', error)
    worker.seconds = 300
    assert 'pid' in worker('work')


def test_an_ended_worker_stays_so(worker):
    worker('work')
    worker.end()
    assert worker('work')['error'] == 'ended with the sweep'


def test_a_job_that_runs_ends_with_the_worker(worker, monkeypatch):
    running = Event()
    monkeypatch.setattr(module, 'resident_bytes', lambda pid: running.set() or 0)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(worker, 'hang')
        assert running.wait(60)
        worker.end()
        assert result.result(30)['error'] == 'ended with the sweep'


def test_no_job_sees_what_an_earlier_one_left():
    worker = Worker(count_calls, seconds=300, gigabytes=1)
    assert worker() == worker() == {'calls': 1}
