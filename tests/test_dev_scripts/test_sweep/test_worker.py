"""Workers survive the end of their processes."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from sweep import worker as module
from sweep.worker import Worker

from ...utils.sweep_jobs import count_calls, job


@pytest.fixture
def worker():
    return Worker(job, seconds=300, gigabytes=1)


def test_calls_have_processes_of_their_own_and_no_output(worker, capfd):
    assert worker('work')['pid'] != worker('work')['pid']
    assert capfd.readouterr().out == ''


@pytest.mark.parametrize(
    ('what', 'seconds', 'error'),
    [
        ('crash', 300, 'the process died of SIGSEGV'),
        ('exit', 300, 'the process ended with exit code 3'),
        ('grow', 300, 'ended with more than 1 GB of memory'),
        ('hang', 1, 'ended after 1 s'),
    ],
)
def test_reason_for_the_end_of_a_process_is_reported(worker, what, seconds, error):
    worker.seconds = seconds
    result = worker(what)
    assert (result['step'], result['error']) == ('process', error)
    worker.seconds = 300
    assert 'pid' in worker('work')


def test_end_of_the_worker_ends_running_and_later_calls(worker, monkeypatch):
    running = Event()
    monkeypatch.setattr(module, 'resident_bytes', lambda pid: running.set() or 0)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(worker, 'hang')
        assert running.wait(60)
        worker.end()
        assert result.result(30)['error'] == 'ended with the sweep'
    assert worker('work')['error'] == 'ended with the sweep'


def test_calls_do_not_share_state():
    worker = Worker(count_calls, seconds=300, gigabytes=1)
    assert worker() == worker() == {'calls': 1}
