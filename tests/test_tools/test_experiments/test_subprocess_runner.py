"""Programs in processes of their own: why they failed, and that they end in time."""

import sys

import pytest
from subprocess_runner import RunFailed, RunTimeout, run_program


@pytest.mark.parametrize(
    ('printed', 'reason'),
    [
        ('loss: 1\nerror: the disk is full; make room\nat exit\n', 'the disk is full; make room'),
        ('Traceback (most recent call last):\nMemoryError\n\n', 'MemoryError'),
        ('', 'no output'),
    ],
)
def test_what_a_program_ended_with_is_the_reason(tmp_path, monkeypatch, capfd, printed, reason):
    (tmp_path / 'text').write_text(printed)
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\ncat {tmp_path}/text >&2\nexit 3\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(python))
    with pytest.raises(RunFailed) as failure:
        run_program('train', None, 'config.py')
    assert str(failure.value) == f'failed in train (exit code 3): {reason}'
    assert capfd.readouterr().out == printed


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes a shell script what runs in Python's place."""

    def write(script):
        python = tmp_path / 'python'
        python.write_text(f'#!/bin/sh\n{script}\n')
        python.chmod(0o755)
        monkeypatch.setattr(sys, 'executable', str(python))

    return write


@pytest.mark.parametrize('script', ['exec sleep 60', "trap '' TERM; while :; do sleep 0.1; done"])
def test_a_program_ends_when_its_time_is_over(stand_in, monkeypatch, script):
    """Also one that does not listen. Left alone, the one would end well and the other never."""
    monkeypatch.setattr('subprocess_runner.GRACE', 0.5)
    stand_in(script)
    with pytest.raises(RunTimeout, match='train was stopped after'):
        run_program('train', None, 'config.py', seconds=0.3)


def test_a_program_that_is_in_time(stand_in):
    stand_in('echo done')
    shown = []
    run_program('train', None, 'config.py', seconds=60, show=shown.append)
    assert shown == ['done\n']
