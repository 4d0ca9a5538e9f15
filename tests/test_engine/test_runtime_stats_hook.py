"""The hook that writes time and memory of a training."""

import json
from types import SimpleNamespace

import pytest
from mmengine.registry import HOOKS

from mmcnnmod.engine import RuntimeStatsHook, runtime_stats_hook


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(runtime_stats_hook, 'monotonic', lambda: clock.now)
    return clock


def start(folder, checkpoint=None, resume=False):
    hook, runner = RuntimeStatsHook(), SimpleNamespace(work_dir=folder, _resume=resume)
    if checkpoint:
        hook.after_load_checkpoint(runner, checkpoint)
    hook.before_train(runner)
    return hook, runner


@pytest.mark.parametrize(('resume', 'seconds'), [(True, 37.0), (False, 7.0)])
def test_time_includes_the_training_before_a_resumption(tmp_path, clock, resume, seconds):
    hook, runner = start(tmp_path)
    clock.now += 30
    checkpoint = dict(meta={})
    hook.before_save_checkpoint(runner, checkpoint)
    clock.now += 5  # after the checkpoint
    hook, runner = start(tmp_path, checkpoint, resume)
    clock.now += 7
    hook.after_train(runner)
    stats = json.loads((tmp_path / 'runtime_stats.json').read_text())
    assert stats['train_seconds'] == seconds
    assert stats['peak_memory_mb'] > 10


def test_old_name_warns():
    with pytest.warns(FutureWarning, match='RunFactsHook is now called RuntimeStatsHook'):
        hook = HOOKS.build(dict(type='RunFactsHook'))
    assert isinstance(hook, RuntimeStatsHook)
