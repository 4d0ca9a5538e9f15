"""Resumed trainings give bitwise the same result as uninterrupted ones, or a warning."""

import gc

import pytest
import torch

from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.errors import UserError

from ..utils.training import (
    EACH_ITERATION,
    InterruptValidation,
    assert_same_result,
    collect_warnings,
    last_checkpoint,
    make_resumed_runner,
    make_runner,
    train_and_interrupt,
)

INFINITE = dict(by_epoch=False, sampler='InfiniteSampler')


def assert_resumption_is_exact(
    tmp_path, iteration, saved=None, resumed_seed=0, workers=0, **options
):
    """Compare a training that is interrupted after an iteration with an uninterrupted one.

    ``saved`` is the last saved iteration, by default the last iteration. Only the interrupted
    training has workers.
    """
    make_runner(tmp_path / 'full', **options).train()
    options['workers'] = workers
    train_and_interrupt(tmp_path / 'resumed', iteration, **options)
    checkpoint = read_checkpoint(last_checkpoint(tmp_path / 'resumed'))
    assert checkpoint['meta']['iter'] == (saved or iteration)
    make_resumed_runner(tmp_path / 'resumed', **{**options, 'seed': resumed_seed}).train()
    assert_same_result(tmp_path / 'full', tmp_path / 'resumed')


@pytest.mark.parametrize(
    'options',
    [
        dict(by_epoch=False),
        INFINITE,
        dict(checkpoint=EACH_ITERATION),
        dict(checkpoint=EACH_ITERATION, ema=True, amp=True),
        dict(checkpoint=dict(**EACH_ITERATION, save_best='acc'), ema=True),
        dict(by_epoch=False, checkpoint=dict(save_best='acc')),
        dict(by_epoch=False, checkpoint=dict(save_best='acc', rule='less')),
        dict(checkpoint=dict(**EACH_ITERATION, save_best='acc', rule='less')),
        dict(by_epoch=False, val=False),
    ],
    ids=lambda options: '-'.join(map(str, options)),
)
@pytest.mark.parametrize('iteration', [1, 4, 6, 8, 'last'])
def test_result_does_not_depend_on_interruptions(tmp_path, options, iteration):
    if iteration == 'last':  # before its validation
        iteration = 12 if options.get('by_epoch', True) else 10
    assert_resumption_is_exact(tmp_path, iteration, **options)


@pytest.mark.parametrize(
    'options', [dict(**INFINITE, ema=True, amp=True), dict(checkpoint=EACH_ITERATION, ema=True)]
)
def test_result_does_not_depend_on_workers(tmp_path, options, monkeypatch):
    # torch waits this long for each worker of a loader that is garbage collected.
    monkeypatch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.1)
    assert_resumption_is_exact(tmp_path, 6, **options, workers=2)
    gc.collect()


def test_training_resumes_from_the_last_complete_epoch(tmp_path):
    assert_resumption_is_exact(tmp_path, 6, saved=4)


def test_random_seed_is_kept(tmp_path):
    """Without a seed in the config, mmengine chooses a new one when it resumes."""
    assert_resumption_is_exact(tmp_path, 6, seed=3, resumed_seed=None, **INFINITE)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_resumed_training_runs_the_validation_that_was_due(tmp_path, by_epoch):
    """The training is killed after a checkpoint and before the next validation."""
    evaluations = []
    train_and_interrupt(tmp_path, InterruptValidation(), by_epoch=by_epoch)
    assert read_checkpoint(last_checkpoint(tmp_path))['meta']['iter'] == 4
    make_resumed_runner(tmp_path, evaluations=evaluations, by_epoch=by_epoch).train()
    assert len(evaluations) == 3


def test_checkpoint_of_mmengines_hook_resumes_with_a_warning(tmp_path):
    make_runner(tmp_path / 'full', **INFINITE).train()
    mmengines = dict(checkpoint=dict(type='CheckpointHook'))
    train_and_interrupt(tmp_path / 'resumed', 6, **INFINITE, **mmengines)
    runner = make_resumed_runner(tmp_path / 'resumed', **INFINITE)
    (line,) = train_with_warnings(runner)
    assert runner.iter == 10
    assert 'not restored: random states, which the checkpoint does not contain' in line
    with pytest.raises(AssertionError):  # as the warning says
        assert_same_result(tmp_path / 'full', tmp_path / 'resumed')


def train_with_warnings(runner):
    lines = collect_warnings(runner)
    runner.train()
    return lines


@pytest.mark.parametrize(
    ('options', 'lost'),
    [
        (
            dict(
                by_epoch=False,
                wrapper=dict(accumulative_counts=4),
                hooks=[dict(type='EarlyStoppingHook', monitor='acc')],
            ),
            'the accumulated gradients of 2 iterations; the counters of EarlyStoppingHook',
        ),
        # torch's sampler shuffles with a generator whose state is not saved.
        (
            dict(checkpoint=EACH_ITERATION, torch_loader=dict(shuffle=True)),
            'the order of RandomSampler',
        ),
    ],
)
def test_warning_names_state_that_is_not_restored(tmp_path, options, lost):
    train_and_interrupt(tmp_path, 6, **options)
    assert lost in train_with_warnings(make_resumed_runner(tmp_path, **options))[0]


@pytest.mark.parametrize('position', [10**9, 625, -5, 'nothing', None])
def test_malformed_random_states_raise_an_error(tmp_path, position):
    """numpy accepts any position, and would read outside of its array."""
    train_and_interrupt(tmp_path, 6, by_epoch=False)
    content = torch.load(last_checkpoint(tmp_path), weights_only=False)
    (states,) = content['training_state']['random']
    kind, keys, _, *rest = states['numpy']
    states['numpy'] = (kind, keys, position, *rest)
    torch.save(content, last_checkpoint(tmp_path))
    with pytest.raises(UserError, match=r'iter_6\.pth: its training_state cannot be restored'):
        make_resumed_runner(tmp_path, by_epoch=False).train()
