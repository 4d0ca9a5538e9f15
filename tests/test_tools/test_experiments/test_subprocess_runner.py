"""Subprocesses: the reasons of failures, and time limits."""

import sys

import pytest
from subprocess_runner import RunFailed, RunTimeout, run_program


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """Run a shell script in place of Python; returns the lines that were shown."""

    def run(script, seconds=None):
        python = tmp_path / 'python'
        python.write_text(f'#!/bin/sh\n{script}\n')
        python.chmod(0o755)
        monkeypatch.setattr(sys, 'executable', str(python))
        run_program('train', None, 'config.py', show=shown.append, seconds=seconds, keep_open=[])

    shown = run.shown = []
    return run


@pytest.mark.parametrize(
    ('output', 'reason'),
    [
        ('loss: 1\nerror: the disk is full; make room\nat exit\n', 'the disk is full; make room'),
        ('Traceback (most recent call last):\nMemoryError\n\n', 'MemoryError'),
        ('', 'no output'),
    ],
)
def test_failure_contains_the_error_line_or_the_last_line(run_script, tmp_path, output, reason):
    (tmp_path / 'output').write_text(output)
    with pytest.raises(RunFailed) as failure:
        run_script(f'cat {tmp_path}/output >&2\nexit 3')
    assert str(failure.value) == f'failed in train (exit code 3): {reason}'
    assert ''.join(run_script.shown) == output


@pytest.mark.parametrize('script', ['exec sleep 60', "trap '' TERM; while :; do sleep 0.1; done"])
def test_program_is_stopped_at_the_time_limit(run_script, monkeypatch, script):
    """The second program ignores SIGTERM."""
    monkeypatch.setattr('subprocess_runner.SECONDS_UNTIL_KILL', 0.5)
    with pytest.raises(RunTimeout, match='train was stopped after'):
        run_script(script, seconds=0.3)


def test_program_ends_before_the_time_limit(run_script):
    run_script('echo done', seconds=60)
    assert run_script.shown == ['done\n']
