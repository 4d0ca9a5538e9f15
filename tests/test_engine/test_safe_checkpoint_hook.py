"""Checkpoints are always complete, and resumed trainings give bitwise the same result."""

import gc
import os
import signal
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmcnnmod import files
from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.engine import safe_checkpoint_hook
from mmcnnmod.errors import UserError

from ..utils.mmengine_run import assert_same
from ..utils.training import make_runner

RESULT = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'training_state')


class StopAt(Hook):
    """Ends a training as a crash does, after the checkpoint of an iteration."""

    priority = 'LOWEST'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, *_, **__):
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


def terminate():
    """Send SIGTERM to this thread; without a handler it would end the process with the tests."""
    assert callable(signal.getsignal(signal.SIGTERM))
    signal.raise_signal(signal.SIGTERM)


class SignalAt(StopAt):
    priority = 'NORMAL'

    def after_train_iter(self, runner, *_, **__):
        if runner.iter + 1 == self.iteration:
            terminate()


class SignalInValidation(StopAt):
    priority = 'NORMAL'

    def after_val_iter(self, runner, batch_idx, *_, **__):
        if runner.iter == self.iteration and batch_idx == 1:
            terminate()

    def after_train_iter(self, *_, **__):
        pass


@pytest.fixture(autouse=True)
def sync_at_once(monkeypatch):
    """A busy disk takes seconds."""
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)


@pytest.fixture(autouse=True)
def signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def last(work_dir):
    return Path((work_dir / 'last_checkpoint').read_text())


def result(work_dir):
    content = read_checkpoint(last(work_dir))
    return {key: content[key] for key in RESULT if key in content}


def interrupted(work_dir, iteration, **options):
    hooks = [StopAt(iteration), *options.pop('hooks', [])]
    with pytest.raises(KeyboardInterrupt):
        make_runner(work_dir, hooks=hooks, **options).train()


EACH_ITERATION = dict(by_epoch=False, interval=1)


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
    make_runner(tmp_path / 'cut', resume=str(found), **options).train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))


def test_the_end_is_the_same_by_epochs(tmp_path):
    make_runner(tmp_path / 'whole').train()
    interrupted(tmp_path / 'cut', 6)  # in the second epoch of three
    make_runner(tmp_path / 'cut', resume=str(last(tmp_path / 'cut'))).train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))


def test_the_seed_of_a_config_without_one_is_kept(tmp_path):
    """mmengine chooses a seed, which the order of the data has to keep."""
    options = dict(by_epoch=False, sampler='InfiniteSampler')
    make_runner(tmp_path / 'whole', seed=3, **options).train()
    interrupted(tmp_path / 'cut', 6, seed=3, **options)
    make_runner(tmp_path / 'cut', seed=None, resume=str(last(tmp_path / 'cut')), **options).train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))


def test_workers_do_not_change_what_is_learnt(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.1)
    for workers in (0, 2):
        make_runner(tmp_path / f'{workers}', workers=workers).train()
    gc.collect()
    assert_same(result(tmp_path / '0'), result(tmp_path / '2'))


def test_each_epoch_has_other_random_numbers(tmp_path):
    class Look(Hook):
        batches = []

        def before_train_iter(self, runner, batch_idx, data_batch):
            self.batches.append(data_batch['inputs'][:, 1])

    make_runner(tmp_path, hooks=[Look()], val=False).train()
    numbers = torch.cat(Look.batches).tolist()
    assert len(set(numbers)) == len(numbers) == 3 * 11


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
    make_runner(tmp_path, resume=str(last(tmp_path)), asked=counts, **options).train()
    assert len(counts) == asked


@pytest.mark.parametrize('checkpoint', [
    dict(max_keep_ckpts=1), dict(max_keep_ckpts=2), dict(save_best='acc', max_keep_ckpts=1)
])  # fmt: skip
@pytest.mark.parametrize('moment', ['before', 'after'])
def test_killed_while_writing(tmp_path, monkeypatch, checkpoint, moment):
    """Files with the name of a checkpoint are always complete."""
    options = dict(by_epoch=False, checkpoint=checkpoint)
    make_runner(tmp_path / 'whole', **options).train()
    rename, count = Path.replace, 0
    for kill in range(1, 30):
        work_dir, count = tmp_path / f'{kill}', 0

        def killed(path, target, kill=kill):
            nonlocal count
            count += 1
            if moment == 'after':
                rename(path, target)
            if count == kill:
                raise KeyboardInterrupt
            if moment == 'before':
                rename(path, target)

        monkeypatch.setattr(Path, 'replace', killed)
        try:
            make_runner(work_dir, **options).train()
        except KeyboardInterrupt:
            monkeypatch.undo()
        else:
            break
        found = sorted(work_dir.glob('*.pth'))
        for path in found:
            read_checkpoint(path)
        if not found:
            assert kill == 1
            continue
        if (work_dir / 'last_checkpoint').exists():
            assert last(work_dir).exists()
            make_runner(work_dir, resume=str(last(work_dir)), **options).train()
            assert_same(result(tmp_path / 'whole'), result(work_dir))
            regular = list(work_dir.glob('iter_*.pth'))
            assert len(regular) == checkpoint['max_keep_ckpts']
    assert kill > 10


def test_a_published_checkpoint(tmp_path):
    keys = ['state_dict', 'meta']
    make_runner(tmp_path, checkpoint=dict(published_keys=keys, save_best='acc')).train()
    published = {path.stem.rsplit('-')[0]: path for path in tmp_path.glob('*-????????.pth')}
    (best,) = tmp_path.glob('best_acc_epoch_?.pth')
    assert set(published) == {'epoch_3', best.stem}
    for path in published.values():
        assert set(torch.load(path, weights_only=True)) == set(keys)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    class Full(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            if runner.iter == 5:
                monkeypatch.setattr(files, 'sync', full)

    def full(path):
        raise OSError(28, 'No space left on device')

    with pytest.raises(UserError) as problem:
        make_runner(
            tmp_path, by_epoch=False, hooks=[Full()], checkpoint=dict(max_keep_ckpts=1)
        ).train()
    assert 'iter_6.pth cannot be written: No space left on device; make room' in str(problem.value)
    assert str(problem.value).endswith(f'{tmp_path / "iter_5.pth"})')
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_5.pth']
    assert not list(tmp_path.glob('.partial-*'))


def test_checkpoints_of_mmengines_hook_resume(tmp_path, caplog):
    plain = dict(by_epoch=False, sampler='InfiniteSampler', checkpoint=dict(type='CheckpointHook'))
    make_runner(tmp_path / 'whole', by_epoch=False, sampler='InfiniteSampler').train()
    interrupted(tmp_path, 6, **plain)
    runner = make_runner(
        tmp_path, by_epoch=False, sampler='InfiniteSampler', resume=str(last(tmp_path))
    )
    lines = warnings_of(runner)
    runner.train()
    assert runner.iter == 10
    whole, cut = (result(path)['state_dict'] for path in (tmp_path / 'whole', tmp_path))
    assert not torch.equal(whole['layers.0.weight'], cut['layers.0.weight'])  # as the line says
    assert len(lines) == 1
    assert 'not restored: random states, which the checkpoint does not hold' in lines[0]


def test_a_warning_names_what_checkpoints_do_not_contain(tmp_path):
    options = dict(by_epoch=False, wrapper=dict(accumulative_counts=4))
    options['hooks'] = [dict(type='EarlyStoppingHook', monitor='acc')]
    interrupted(tmp_path, 6, **options)
    runner = make_runner(tmp_path, resume=str(last(tmp_path)), **options)
    lines = warnings_of(runner)
    runner.train()
    assert 'the gradients of 2 iterations that were accumulated; what EarlyStopping' in lines[0]


def warnings_of(runner):
    lines = []
    runner.logger.warning = lines.append
    return lines


@pytest.mark.parametrize('options', [
    dict(by_epoch=False), dict(), dict(ema=True), dict(by_epoch=False, ema=True)
])  # fmt: skip
@pytest.mark.parametrize('when', [SignalAt, SignalInValidation])
def test_sigterm(tmp_path, options, when):
    """A checkpoint is written at once, in the middle of an epoch or a validation."""
    stop = dict(type='TerminationHook')
    # So rarely that there would be no regular checkpoint.
    options = dict(checkpoint=dict(interval=100), **options)
    make_runner(tmp_path / 'whole', **options).train()
    iteration = 6 if when is SignalAt else 8
    runner = make_runner(tmp_path / 'cut', hooks=[stop, when(iteration)], **options)
    lines = warnings_of(runner)
    with pytest.raises(SystemExit) as end:
        runner.train()
    assert end.value.code == 143
    found = last(tmp_path / 'cut')
    assert f'after iteration {iteration}: checkpoint {found} is written' in lines[-1]
    make_runner(tmp_path / 'cut', hooks=[stop], resume=str(found), **options).train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))
    regular = 'iter_10.pth' if options.get('by_epoch') is False else 'epoch_3.pth'
    assert last(tmp_path / 'cut').name == regular


def test_a_checkpoint_in_the_middle_of_an_epoch_goes_when_the_next_is_there(tmp_path):
    options = dict(checkpoint=dict(max_keep_ckpts=1))
    names = []
    for iteration in (5, 7, None):  # the second of three epochs has 5 to 8
        hooks = [dict(type='TerminationHook'), *([SignalAt(iteration)] if iteration else [])]
        resume = str(last(tmp_path)) if names else None
        runner = make_runner(tmp_path, hooks=hooks, resume=resume, **options)
        if iteration:
            with pytest.raises(SystemExit):
                runner.train()
        else:
            runner.train()
        names.append(sorted(path.name for path in tmp_path.glob('*.pth')))
    assert names == [['epoch_1.pth', 'iter_5.pth'], ['epoch_1.pth', 'iter_7.pth'], ['epoch_3.pth']]


def test_processes_that_found_different_checkpoints(tmp_path, monkeypatch):
    """Two hosts, and the second one's work dir is older."""
    monkeypatch.setattr(
        safe_checkpoint_hook, 'all_gather_object', lambda place: [place, (place[0], 3)]
    )
    with pytest.raises(UserError, match='different checkpoints; copy the work dir to every host'):
        make_runner(tmp_path).train()
    assert not list(tmp_path.glob('*.pth'))


def test_data_of_less_than_a_batch(tmp_path):
    """mmengine's own loop would never end."""
    runner = make_runner(tmp_path, by_epoch=False, drop_last=True, batch_size=12, val=False)
    with pytest.raises(UserError, match='make no batch: take a smaller batch_size'):
        runner.train()


@pytest.mark.parametrize('by_epoch', [True, False])
def test_sigterm_in_a_validation_after_resuming(tmp_path, by_epoch):
    """It is the first step of a resumed training."""

    class Kill(Hook):
        def before_val(self, runner):
            raise KeyboardInterrupt

    options = dict(by_epoch=by_epoch)
    stop = dict(type='TerminationHook')
    make_runner(tmp_path / 'whole', **options).train()
    with pytest.raises(KeyboardInterrupt):
        make_runner(tmp_path / 'cut', hooks=[Kill()], **options).train()
    runner = make_runner(
        tmp_path / 'cut', resume=str(last(tmp_path / 'cut')), hooks=[stop, SignalInValidation(4)],
        **options,
    )  # fmt: skip
    with pytest.raises(SystemExit) as end:
        runner.train()
    assert end.value.code == 143
    make_runner(tmp_path / 'cut', resume=str(last(tmp_path / 'cut')), **options).train()
    assert_same(result(tmp_path / 'whole'), result(tmp_path / 'cut'))


def test_the_best_checkpoint_of_another_folder_stays(tmp_path):
    """A checkpoint may name any path as the best one so far."""
    thesis = tmp_path / 'best_thesis'
    thesis.mkdir()
    options = dict(checkpoint=dict(save_best='acc', rule='less'))
    interrupted(tmp_path / 'run', 5, **options)
    path = last(tmp_path / 'run')
    content = torch.load(path, weights_only=False)
    content['message_hub']['runtime_info'].update(best_ckpt=str(thesis), best_score=1e9)
    torch.save(content, path)
    make_runner(tmp_path / 'run', resume=str(path), **options).train()
    assert thesis.exists()
    assert list((tmp_path / 'run').glob('best_*.pth'))


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
        make_runner(tmp_path, by_epoch=False, resume=str(last(tmp_path))).train()


def test_a_warning_names_a_sampler_whose_order_is_lost(tmp_path):
    """torch's sampler draws the order from a generator whose state is not saved."""
    options = dict(checkpoint=EACH_ITERATION, loader=dict(shuffle=True))
    interrupted(tmp_path, 6, **options)
    runner = make_runner(tmp_path, resume=str(last(tmp_path)), **options)
    lines = warnings_of(runner)
    runner.train()
    assert 'the order in which RandomSampler draws' in lines[0]


def test_what_a_killed_write_has_left_is_removed(tmp_path):
    interrupted(tmp_path, 6, by_epoch=False)
    (tmp_path / '.partial-iter_7.pth').write_bytes(b'half')
    make_runner(tmp_path, by_epoch=False, resume=str(last(tmp_path))).train()
    assert not list(tmp_path.glob('.partial-*'))


def test_what_a_training_forks_ends_by_sigterm(tmp_path):
    """For example, mmdet scores detections in a pool of processes."""

    class Fork(Hook):
        def after_train_iter(self, *_, **__):
            read, write = os.pipe()
            child = os.fork()
            if not child:
                try:
                    os.write(write, b'.')
                    signal.pause()
                finally:
                    os._exit(0)  # whatever happens, it must not go on with the tests
            os.read(read, 1)  # wait until the child runs
            os.kill(child, signal.SIGTERM)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            os.close(read)
            os.close(write)

    codes = []
    make_runner(tmp_path, by_epoch=False, hooks=[dict(type='TerminationHook'), Fork()]).train()
    assert codes == [-signal.SIGTERM] * 10


def test_sigterm_needs_the_hook(tmp_path):
    hooks = [dict(type='TerminationHook')]
    with pytest.raises(UserError, match=r'needs .*SafeCheckpointHook'):
        make_runner(tmp_path, hooks=hooks, checkpoint=dict(type='CheckpointHook')).train()


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_loss_that_is_no_number(tmp_path, bad):
    class Spoil(Hook):
        priority = 'HIGHEST'

        def after_train_iter(self, runner, batch_idx, data_batch, outputs):
            if runner.iter == 5:
                outputs['loss'] = torch.tensor(bad)

    options = dict(by_epoch=False, hooks=[dict(type='FiniteLossHook'), Spoil()])
    with pytest.raises(UserError, match=rf'not finite in iteration 6 \(loss {bad}\): try a lower'):
        make_runner(tmp_path, **options).train()
    assert last(tmp_path).name == 'iter_5.pth'
