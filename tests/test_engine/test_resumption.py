"""Resumed trainings give bitwise the same result as uninterrupted ones, or a warning."""

import gc

import pytest
import torch
from mmengine.hooks import Hook

from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.errors import UserError

from ..utils.mmengine_run import assert_same
from ..utils.training import (
    EACH_ITERATION,
    interrupted,
    last,
    make_runner,
    result,
    resumed,
    warnings_of,
)


@pytest.mark.parametrize(
    'options',
    [
        dict(by_epoch=False),
        dict(by_epoch=False, sampler='InfiniteSampler'),
        dict(checkpoint=EACH_ITERATION),
        dict(checkpoint=EACH_ITERATION, ema=True, amp=True),
        dict(checkpoint=dict(by_epoch=False, interval=1, save_best='acc'), ema=True),
        dict(by_epoch=False, checkpoint=dict(save_best='acc')),
        dict(by_epoch=False, checkpoint=dict(save_best='acc', rule='less')),
        dict(checkpoint=dict(**EACH_ITERATION, save_best='acc', rule='less')),
        dict(by_epoch=False, val=False),
    ],
    ids=lambda options: '-'.join(map(str, options)),
)
@pytest.mark.parametrize('iteration', [1, 4, 6, 8, 'the last'])
def test_the_end_is_the_same(tmp_path, options, iteration):
    if iteration == 'the last':  # before its validation
        iteration = 10 if options.get('by_epoch') is False else 12
    resume_and_compare(tmp_path, options, iteration)


@pytest.mark.parametrize(
    'options',
    [
        dict(by_epoch=False, sampler='InfiniteSampler', ema=True, amp=True),
        dict(checkpoint=EACH_ITERATION, ema=True),
    ],
    ids=lambda options: '-'.join(map(str, options)),
)
def test_the_end_is_the_same_with_workers(tmp_path, options, monkeypatch):
    # torch waits this long for each worker of a loader that is garbage collected.
    monkeypatch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.1)
    resume_and_compare(tmp_path, dict(options, workers=2), 6)
    gc.collect()


def resume_and_compare(tmp_path, options, iteration):
    make_runner(tmp_path / 'whole', **options).train()
    interrupted(tmp_path / 'cut', iteration, **options)
    found = last(tmp_path / 'cut')
    assert read_checkpoint(found)['meta']['iter'] == iteration
    resumed(tmp_path / 'cut', **options).train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))


def test_the_end_is_the_same_by_epochs(tmp_path):
    make_runner(tmp_path / 'whole').train()
    interrupted(tmp_path / 'cut', 6)  # in the second epoch of three
    resumed(tmp_path / 'cut').train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))


def test_the_seed_of_a_config_without_one_is_kept(tmp_path):
    """mmengine chooses a seed, which the order of the data has to keep."""
    options = dict(by_epoch=False, sampler='InfiniteSampler')
    make_runner(tmp_path / 'whole', seed=3, **options).train()
    interrupted(tmp_path / 'cut', 6, seed=3, **options)
    resumed(tmp_path / 'cut', seed=None, **options).train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))


@pytest.mark.parametrize(('options', 'asked'), [
    (dict(), 3), (dict(by_epoch=False), 3),  # after iterations 4, 8 and 10
])  # fmt: skip
def test_a_validation_that_was_due_is_done_after_resuming(tmp_path, options, asked):
    """Killed after a checkpoint and before the validation that comes next."""
    counts = []

    class Stop(Hook):
        def before_val(self, runner):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_runner(tmp_path, hooks=[Stop()], **options).train()
    assert read_checkpoint(last(tmp_path))['meta']['iter'] == 4
    resumed(tmp_path, asked=counts, **options).train()
    assert len(counts) == asked


def test_checkpoints_of_mmengines_hook_resume(tmp_path, caplog):
    plain = dict(by_epoch=False, sampler='InfiniteSampler', checkpoint=dict(type='CheckpointHook'))
    make_runner(tmp_path / 'whole', by_epoch=False, sampler='InfiniteSampler').train()
    interrupted(tmp_path, 6, **plain)
    runner = resumed(tmp_path, by_epoch=False, sampler='InfiniteSampler')
    lines = warnings_of(runner)
    runner.train()
    assert runner.iter == 10
    whole, cut = (result(path)['state_dict'] for path in (tmp_path / 'whole', tmp_path))
    assert not torch.equal(whole['layers.0.weight'], cut['layers.0.weight'])  # as the line says
    assert len(lines) == 1
    assert 'not restored: random states, which the checkpoint does not contain' in lines[0]


def test_a_warning_names_what_checkpoints_do_not_contain(tmp_path):
    options = dict(by_epoch=False, wrapper=dict(accumulative_counts=4))
    options['hooks'] = [dict(type='EarlyStoppingHook', monitor='acc')]
    interrupted(tmp_path, 6, **options)
    runner = resumed(tmp_path, **options)
    lines = warnings_of(runner)
    runner.train()
    assert 'the accumulated gradients of 2 iterations; the counters of EarlyStopping' in lines[0]


@pytest.mark.parametrize('position', [10**9, 625, -5, 'nothing', None])
def test_malformed_random_states(tmp_path, position):
    """numpy accepts any position, and would read outside of its array."""
    interrupted(tmp_path, 6, by_epoch=False)
    content = torch.load(last(tmp_path), weights_only=False)
    (states,) = content['training_state']['random']
    kind, keys, _, *rest = states['numpy']
    states['numpy'] = (kind, keys, position, *rest)
    torch.save(content, last(tmp_path))
    with pytest.raises(UserError, match=r'iter_6\.pth: its training_state cannot be restored'):
        resumed(tmp_path, by_epoch=False).train()


def test_a_warning_names_a_sampler_whose_order_is_lost(tmp_path):
    """torch's sampler draws the order from a generator whose state is not saved."""
    options = dict(checkpoint=EACH_ITERATION, loader=dict(shuffle=True))
    interrupted(tmp_path, 6, **options)
    runner = resumed(tmp_path, **options)
    lines = warnings_of(runner)
    runner.train()
    assert 'the order of RandomSampler' in lines[0]
