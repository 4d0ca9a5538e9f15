"""The runner of plans and configs: order, resumption, a time budget, what arms need, mistakes."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from results import locked
from subprocess_runner import RunFailed, RunTimeout

from ...utils.experiments import log, save_checkpoint
from .conftest import CONFIG, PLAN

DENSE_ONLY = PLAN.split('  MoD:')[0]


def records(name='plan'):
    return json.loads(Path(f'out/{name}.json').read_text())['runs']


def recorded(name='plan'):
    return [(r['arm'], r['seed'], r['score']) for r in records(name)]


def first_epoch(folder):
    """What a training leaves that was interrupted in its second epoch."""
    save_checkpoint(folder / 'epoch_1.pth')
    log(folder, {'accuracy/top1': 40, 'step': 1})


def resumed_from(words):
    return words[words.index('--resume') + 1]


def fail(reason):
    def fail(folder):
        raise RunFailed(reason)

    return fail


def interrupt(folder):
    first_epoch(folder)
    raise KeyboardInterrupt


def test_every_run_is_recorded_and_not_run_again(programs, run):
    code, out, _ = run()
    assert code == 0
    assert programs.runs == ['dense-0', 'MoD-0', 'dense-1', 'MoD-1']
    assert recorded() == [('dense', 0, 50), ('dense', 1, 51), ('MoD', 0, 50), ('MoD', 1, 51)]
    assert 'plan, MoD, seed 0 (2 of 4, about 0:05:00 left)' in out  # weights 2, 1 and 2
    assert cells(out, 'dense') == ['dense', '2', '50.5 ± 0.7071']
    record = records()[0]
    assert record['seconds'] == 60
    assert record['data_share'] == 0.25
    assert record['versions']['torch'] == torch.__version__
    assert 'eta: 0:00:09' in Path('out/plan/dense-0/train.log').read_text()
    assert not Path('out/plan/dense-0/epoch_1.pth').exists()

    programs.runs.clear()
    code, out, _ = run()
    assert (code, programs.runs) == (0, [])
    assert '4 of 4 runs are done' in out
    _, out, _ = run('--list')
    assert 'plan, dense, seed 1: accuracy/top1 51' in out


def cells(out, name):
    """A row of the table at the end."""
    (line,) = [line for line in out.splitlines() if line.startswith(f'│ {name} ')]
    return [cell.strip() for cell in line.strip('│').split('│')]


def test_the_frozen_config_has_overrides_seed_data_and_the_needed_checkpoint(programs, run):
    run('--seeds', 1, '--data-root', 'there', '--cfg-options', 'model.backbone.c=32')
    cfg = Config.fromfile('out/plan/MoD-1.py')
    assert cfg.randomness.seed == 1
    assert cfg.train_dataloader.dataset.data_root == 'there/'
    assert (cfg.model.backbone.depth, cfg.model.backbone.c) == (18, 32)
    assert cfg.model.backbone.init_cfg.checkpoint.endswith('/out/plan/dense-1/epoch_2.pth')
    assert Config.fromfile('out/plan/dense-1.py').model.backbone.depth == 34


@pytest.mark.parametrize('stop', [KeyboardInterrupt, SystemExit(143)])
def test_an_interrupted_run_resumes_from_its_newest_whole_checkpoint(programs, run, stop):
    def interrupt(folder):
        first_epoch(folder)
        (folder / 'epoch_2.pth').write_bytes((folder / 'epoch_1.pth').read_bytes()[:-99])
        log(folder, {'accuracy/top1': 60, 'step': 2})
        raise stop

    programs.disturb['MoD-0'] = interrupt
    code, _, err = run()
    assert code == (130 if stop is KeyboardInterrupt else 143)
    assert 'interrupted in plan, MoD, seed 0; the same command resumes' in err
    assert recorded() == [('dense', 0, 50)]
    programs.runs.clear()
    programs.words.clear()
    assert run()[0] == 0
    assert programs.runs == ['MoD-0', 'dense-1', 'MoD-1']
    assert resumed_from(programs.words[0]).endswith('out/plan/MoD-0/epoch_1.pth')
    assert '--resume' not in programs.words[1]
    assert [r['seconds'] for r in records() if r['arm'] == 'MoD'] == [None, 60]


def test_a_run_resumes_in_the_middle_of_an_epoch(programs, run):
    """SIGTERM leaves a checkpoint that counts iterations, also in a training by epochs."""

    def interrupt(folder):
        first_epoch(folder)
        save_checkpoint(folder / 'iter_21.pth')
        raise SystemExit(143)

    options = ['--arms', 'dense']
    programs.disturb['dense-1'] = interrupt
    assert run(*options)[0] == 143
    _, out, _ = run(*options)
    assert 'plan, dense, seed 1 (1 of 1, about 0:00:30 left)' in out
    assert resumed_from(programs.words[-1]).endswith('iter_21.pth')


def test_a_checkpoint_whose_evaluation_is_missing_is_not_resumed(programs, run):
    """mmengine writes it before the evaluation, and would not make up for that."""

    def interrupt(folder):
        first_epoch(folder)
        save_checkpoint(folder / 'epoch_2.pth')
        raise KeyboardInterrupt

    programs.disturb['dense-0'] = interrupt
    run('--seeds', 0)
    programs.words.clear()
    assert run('--seeds', 0)[0] == 0
    assert resumed_from(programs.words[0]).endswith('out/plan/dense-0/epoch_1.pth')


def test_a_run_without_its_last_evaluation_is_not_recorded(programs, run):
    Path('plan.yml').write_text(PLAN.replace('max_epochs: 2', 'max_epochs: 3'))
    code, _, err = run('--arms', 'dense', '--seeds', 0)
    assert code == 1
    assert 'was last evaluated at step 2, not at the end, 3' in err
    assert not recorded()


def test_a_score_of_another_name_is_noticed_before_training_resumes(programs, run):
    Path('plan.yml').write_text(PLAN.replace('accuracy/top1', 'mIoU'))
    programs.disturb['dense-0'] = interrupt
    run('--arms', 'dense', '--seeds', 0)
    code, _, err = run('--arms', 'dense', '--seeds', 0)
    assert code == 1
    assert 'has no score mIoU, but accuracy/top1; correct the metric' in err
    assert programs.runs == ['dense-0']


def test_a_loss_that_is_not_finite_is_a_failure(programs, run):
    programs.loss = float('nan')
    code, _, err = run('--arms', 'dense', '--seeds', 0)
    assert code == 1
    assert 'the last loss is nan' in err


def test_what_another_program_trains_is_left_alone(programs, run):
    Path('out/plan/dense-0').mkdir(parents=True)
    with locked(Path('out/plan/dense-0')):
        code, out, _ = run('--arms', 'dense')
    assert code == 0
    assert 'another process uses' in out
    assert programs.runs == ['dense-1']


def test_the_same_settings_in_two_plans_are_trained_once(programs, run):
    run('--arms', 'dense', '--seeds', 0)
    other = DENSE_ONLY.replace('  dense:', '  R34:').replace('[0, 1]', '[0]')
    Path('other.yml').write_text(other)
    programs.runs.clear()
    run(plan='other.yml')
    assert programs.runs == []
    (record,) = records('other')
    assert (record['arm'], record['score'], record['taken_from']) == ('R34', 50, 'plan')


def test_a_time_budget_skips_what_does_not_fit(programs, run):
    """Each run takes a minute, but before the first MoD its weight says two."""
    code, out, _ = run('--time-budget', 2.5)
    assert code == 0
    assert programs.runs == ['dense-0', 'dense-1']
    assert '2 runs did not fit' in out
    run('--time-budget', 2.5)
    assert programs.runs[2:] == ['MoD-0', 'MoD-1']


def test_the_run_that_is_cut_is_no_failure(programs, run):
    def cut(folder):
        raise RunTimeout

    programs.disturb['dense-0'] = cut
    code, out, _ = run('--time-budget', 1)
    assert code == 0
    assert 'plan, dense, seed 0: stopped; the next start resumes it' in out
    assert '2 runs did not fit' in out
    assert not Path('out/plan.json').exists()


def test_a_failure_gets_one_line_and_the_others_run(programs, run):
    programs.disturb['dense-0'] = fail('failed in train (exit code 1): no space left')
    code, out, err = run()
    assert code == 1
    assert err == 'error: plan, dense, seed 0: failed in train (exit code 1): no space left\n'
    assert 'plan, MoD, seed 0: waits for plan, dense, seed 0' in out
    assert programs.runs == ['dense-0', 'dense-1', 'MoD-1']
    assert 'dense, seed 0: not run, about 0:01:00, failed in train' in run('--list')[1]
    assert run()[0] == 0
    assert 'no space left' not in Path('out/plan.json').read_text()


def test_results_of_other_settings_are_not_mixed(programs, run):
    run('--seeds', 0)
    Path('plan.yml').write_text(PLAN.replace('depth: 34', 'depth: 26'))
    code, _, err = run()
    assert code == 1
    assert 'dense was run with other settings' in err
    assert programs.runs == ['dense-0', 'MoD-0']
    _, out, _ = run('--list')
    assert 'dense, seed 0: accuracy/top1 50, with other settings than the current ones' in out


def test_a_half_trained_run_of_other_settings_is_not_resumed(programs, run):
    programs.disturb['dense-0'] = interrupt
    run()
    Path('plan.yml').write_text(PLAN.replace('depth: 34', 'depth: 26'))
    code, _, err = run('--arms', 'dense', '--seeds', 0)
    assert code == 1
    assert 'was started with other settings' in err


@pytest.mark.parametrize(
    ('plan', 'options', 'words'),
    [
        ('plan.yml', ['--arms', 'dense', 'R9'], "has no arm 'R9'; choose from dense, MoD"),
        ('plan.yml', ['--seeds', 7], 'has no seed 7; choose from 0, 1'),
        ('plan.yml', ['--arms', 'MoD'], 'MoD, seed 0 needs plan, dense, seed 0, which has not run'),
        ('plan.yml', ['--results', '/proc/x'], '--results /proc/x: '),
        ('plan.yml', ['--tta'], '--tta: plan plan has no test'),
        ('plan.yml', ['--metric', 'mIoU'], '--metric is for a config'),
        ('config.py', ['--launcher', 'pytorch'], '--gpus N'),
        ('config.py', ['--resume', 'x.pth'], 'each run resumes from its own'),
        ('config.py', ['--seeds', '-1'], 'must be numbers from 0'),
        ('config.py', ['--gpus', '0'], 'at least 1'),
        ('config.py', ['--cfg-options', 'test_dataloader=None'], 'no test_dataloader'),
        ('none.py', [], 'config none.py does not exist'),
    ],
)
def test_bad_options_get_one_line(programs, run, plan, options, words):
    code, _, err = run(*options, plan=plan)
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith('error: ')
    assert words in line
    assert not programs.runs


@pytest.mark.parametrize('budget', ['-1', '0', 'nan', 'soon'])
def test_a_budget_is_a_length_of_time(run, budget):
    code, _, err = run('--time-budget', budget)
    assert code == 2
    assert 'argument --time-budget: invalid minutes value' in err


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ('model.backbone.depth: 34', 'modle.depth: 34', 'no key for the override modle.depth'),
        ('{overrides: {model.backbone.depth: 34}}', '{}', 'dense and plain have the same settings'),
    ],
)
def test_an_arm_that_is_not_what_it_says(programs, run, old, new, words):
    Path('plan.yml').write_text(DENSE_ONLY.replace(old, new) + '  plain: {}\n')
    code, _, err = run()
    assert code == 1
    assert words in err
    assert not programs.runs


def test_a_network_that_cannot_be_built_is_one_failure(programs, run):
    plan = DENSE_ONLY.replace('seeds:', 'image_size: [32, 32]\nseeds:')
    Path('plan.yml').write_text(plan + '  none: {overrides: {model.backbone.c: 9999}}\n')
    code, _, err = run('--seeds', 0)
    assert code == 1
    assert err.startswith('error: plan, none, seed 0: config')
    assert programs.runs == ['dense-0']


# A config with several seeds: a plan whose runs are tested.


@pytest.fixture
def run_config(run):
    return lambda *options: run(*options, plan='config.py')


def both(*seeds):
    """The programs of finished runs."""
    folders = [f'config-{seed}' for seed in seeds]
    return [program for folder in folders for program in (folder, (folder, 'test'))]


def test_seeds_of_a_config_are_trained_and_tested(programs, run_config):
    code, out, _ = run_config('--seeds', 2, 0, 1)
    assert code == 0
    assert programs.runs == both(2, 0, 1)
    assert recorded('config') == [('config', 0, 90), ('config', 1, 92), ('config', 2, 97)]
    record = records('config')[2]
    assert record['metrics'] == {'accuracy/top1': 97.0}
    assert record['versions']['torch'] == torch.__version__
    # ((90 - 93)^2 + (92 - 93)^2 + (97 - 93)^2) / (3 - 1) = 13
    assert cells(out, 'config') == ['config', '3', '93 ± 3.606']
    assert 'config, config, seed 2: accuracy/top1 97' in out
    assert '(2 of 3, about 0:04:00 left)' in out
    assert Path('out/config/config-0/epoch_1.pth').exists()

    programs.runs.clear()
    code, out, _ = run_config()  # 0 to 4
    assert (code, programs.runs) == (0, both(3, 4))
    assert '3 of 5 runs are done' in out
    assert cells(out, 'config')[:2] == ['config', '5']


def test_the_best_checkpoint_is_tested_or_the_last(programs, run_config):
    run_config('--seeds', 0)
    assert programs.words[1][0].endswith('out/config/config-0/best_2.pth')
    assert records('config')[0]['checkpoint'] == 'best_2.pth'
    options = ['--cfg-options', 'default_hooks.checkpoint.save_best=None']
    run_config('--seeds', 0, '--work-dir', 'last', *options)
    assert programs.words[3][0].endswith('last/config/config-0/epoch_2.pth')
    run_config('--seeds', 0, '--work-dir', 'blind', '--no-validate')
    assert programs.words[5][0].endswith('blind/config/config-0/epoch_2.pth')


@pytest.mark.parametrize('program', ['train', 'test'])
def test_a_seed_that_fails_is_recorded_and_the_others_run(programs, run_config, program):
    which = 'config-1' if program == 'train' else ('config-1', 'test')
    programs.disturb[which] = fail(f'failed in {program} (exit code 1): no space left')
    code, _, err = run_config('--seeds', 0, 1, 2)
    assert code == 1
    reason = f'failed in {program} (exit code 1): no space left'
    assert err.splitlines() == [f'error: config, config, seed 1: {reason}']
    assert programs.runs[-2:] == both(2)
    assert [seed for _, seed, _ in recorded('config')] == [0, 2]
    failures = json.loads(Path('out/config.json').read_text())['failures']
    assert failures == {'config, seed 1': reason}

    programs.runs.clear()
    assert run_config('--seeds', 0, 1, 2)[0] == 0
    assert programs.runs == both(1)[program == 'test' :]
    assert 'failures' not in json.loads(Path('out/config.json').read_text())


def test_an_interrupted_seed_resumes(programs, run_config):
    def interrupt(folder):
        first_epoch(folder)
        # The next was being written.
        (folder / 'epoch_2.pth').write_bytes((folder / 'epoch_1.pth').read_bytes()[:-99])
        raise KeyboardInterrupt

    programs.disturb['config-1'] = interrupt
    assert run_config('--seeds', 0, 1, 2)[0] == 130
    assert [seed for _, seed, _ in recorded('config')] == [0]
    programs.runs.clear()
    programs.words.clear()
    assert run_config('--seeds', 0, 1, 2, '--resume')[0] == 0
    assert programs.runs == both(1, 2)
    assert resumed_from(programs.words[0]).endswith('out/config/config-1/epoch_1.pth')
    # Not the time of the whole run.
    assert [record['seconds'] for record in records('config')] == [120, None, 120]


def test_a_seed_without_a_readable_checkpoint_is_not_trained_anew(programs, run_config):
    Path('out/config/config-0').mkdir(parents=True)
    Path('out/config/config-0/epoch_5.pth').write_bytes(b'PK')
    code, _, err = run_config('--seeds', 0)
    assert code == 1
    assert 'error: config, config, seed 0: cannot resume: checkpoint' in err
    assert 'epoch_5.pth cannot be read' in err
    assert not programs.runs


@pytest.mark.parametrize('options', [['--cfg-options', 'model.backbone.c=32'], ['--tta']])
def test_results_with_other_options_are_not_mixed(programs, run_config, options):
    run_config('--seeds', 0)
    code, _, err = run_config('--seeds', 1, *options)
    assert code == 1
    assert 'was run with other settings' in err
    assert '--work-dir' in err
    assert programs.runs == both(0)


def test_settings_that_no_seed_could_begin_with_may_be_changed(programs, run_config):
    programs.disturb['config-0'] = fail('failed in train (exit code 1): out of memory')
    assert run_config('--seeds', 0)[0] == 1
    assert run_config('--seeds', 0, '--cfg-options', 'train_dataloader.batch_size=8')[0] == 0


def test_the_score_of_a_config(programs, run_config):
    Path('config.py').write_text(CONFIG.replace("type='Accuracy'", "type='Other'"))
    assert 'choose one of the scores of its evaluation with --metric' in run_config('--seeds', 0)[2]
    code, _, err = run_config('--seeds', 0, '--metric', 'mIoU')
    assert code == 1
    assert 'has no score mIoU, but accuracy/top1' in err
    assert run_config('--seeds', 0, '--metric', 'accuracy/top1')[0] == 0
    assert programs.runs == both(0)


def test_gpus_and_tta_reach_training_and_test(programs, run):
    on_cpu = ['--cfg-options', 'env_cfg.dist_cfg.backend=gloo']
    assert run('--seeds', 0, '--gpus', 2, '--tta', *on_cpu, plan='config.py')[0] == 0
    assert programs.runs == ['config-0', ('config-0', 'test')]
    assert programs.gpus == [2, 2]
    assert ['--tta' in words for words in programs.words] == [False, True]
