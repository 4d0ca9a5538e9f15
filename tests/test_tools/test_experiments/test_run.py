"""The runner of plans and configs: order, resumption, time budget, dependencies and errors."""

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
NO_SPACE = 'failed in train (exit code 1): no space left'


def records(name='plan'):
    return json.loads(Path(f'out/{name}.json').read_text())['runs']


def scores(name='plan'):
    return [(record['arm'], record['seed'], record['score']) for record in records(name)]


def cells(out, name):
    """The row of the printed table for an arm."""
    (line,) = [line for line in out.splitlines() if line.startswith(f'│ {name} ')]
    return [cell.strip() for cell in line.strip('│').split('│')]


def fail_with(error):
    def fail(folder):
        raise error

    return fail


def finish_first_epoch(folder):
    save_checkpoint(folder / 'epoch_1.pth')
    log(folder, {'accuracy/top1': 40, 'step': 1})


def interrupt(folder):
    """Interrupt a training in its second epoch."""
    finish_first_epoch(folder)
    raise KeyboardInterrupt


def assert_fails(result, words):
    code, _, err = result
    assert code == 1
    assert words in err


def test_runs_are_recorded_and_not_repeated(programs, run):
    code, out, _ = run()
    assert code == 0
    assert programs.runs == ['dense-0', 'MoD-0', 'dense-1', 'MoD-1']
    assert scores() == [('dense', 0, 50), ('dense', 1, 51), ('MoD', 0, 50), ('MoD', 1, 51)]
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


def test_config_of_a_run_has_overrides_seed_data_and_needed_checkpoint(programs, run):
    run('--seeds', 1, '--data-root', 'there', '--cfg-options', 'model.backbone.c=32')
    cfg = Config.fromfile('out/plan/MoD-1.py')
    assert cfg.randomness.seed == 1
    assert cfg.train_dataloader.dataset.data_root == 'there/'
    assert (cfg.model.backbone.depth, cfg.model.backbone.c) == (18, 32)
    assert cfg.model.backbone.init_cfg.checkpoint.endswith('/out/plan/dense-1/epoch_2.pth')
    assert Config.fromfile('out/plan/dense-1.py').model.backbone.depth == 34


@pytest.mark.parametrize(
    ('error', 'code', 'is_complete'),
    [(KeyboardInterrupt, 130, False), (SystemExit(143), 143, True)],
)
def test_interrupted_run_resumes_from_newest_evaluated_checkpoint(
    programs, run, error, code, is_complete
):
    """The second checkpoint is either truncated, or not evaluated."""

    def interrupt_after_second_epoch(folder):
        finish_first_epoch(folder)
        path = folder / 'epoch_2.pth'
        save_checkpoint(path)
        if not is_complete:
            path.write_bytes(path.read_bytes()[:-99])
            log(folder, {'accuracy/top1': 60, 'step': 2})
        raise error

    programs.before['MoD-0'] = interrupt_after_second_epoch
    assert run()[0] == code
    assert scores() == [('dense', 0, 50)]
    programs.clear()
    assert run('--resume')[0] == 0
    assert programs.runs == ['MoD-0', 'dense-1', 'MoD-1']
    assert programs.resumed_from().endswith('out/plan/MoD-0/epoch_1.pth')
    assert '--resume' not in programs.arguments[1]
    assert [record['seconds'] for record in records() if record['arm'] == 'MoD'] == [None, 60]


def test_interrupted_run_resumes_in_the_middle_of_an_epoch(programs, run):
    """SIGTERM leaves a checkpoint of an iteration, also in epoch-based training."""

    def interrupt_by_sigterm(folder):
        finish_first_epoch(folder)
        save_checkpoint(folder / 'iter_21.pth')
        raise SystemExit(143)

    programs.before['dense-1'] = interrupt_by_sigterm
    code, _, err = run('--arms', 'dense')
    assert code == 143
    assert 'interrupted during plan, dense, seed 1; repeat the command to resume' in err
    programs.clear()
    _, out, _ = run('--arms', 'dense')
    assert 'plan, dense, seed 1 (1 of 1, about 0:00:30 left)' in out
    assert programs.resumed_from().endswith('iter_21.pth')


def test_wrong_metric_is_found_before_a_training_resumes(programs, run):
    Path('plan.yml').write_text(PLAN.replace('accuracy/top1', 'mIoU'))
    programs.before['dense-0'] = interrupt
    options = ['--arms', 'dense', '--seeds', 0]
    run(*options)
    assert_fails(run(*options), 'has no score mIoU, but accuracy/top1; correct the metric')
    assert programs.runs == ['dense-0']


def test_training_with_infinite_loss_fails(programs, run):
    programs.loss = float('nan')
    assert_fails(run('--arms', 'dense', '--seeds', 0), 'the last loss is nan')


def test_run_of_another_process_is_skipped(programs, run):
    Path('out/plan/dense-0').mkdir(parents=True)
    with locked(Path('out/plan/dense-0')):
        code, out, _ = run('--arms', 'dense')
    assert code == 0
    assert 'another process uses' in out
    assert programs.runs == ['dense-1']


def test_equal_settings_in_two_plans_are_trained_once(programs, run):
    run('--arms', 'dense', '--seeds', 0)
    other = DENSE_ONLY.replace('  dense:', '  R34:').replace('[0, 1]', '[0]')
    Path('other.yml').write_text(other)
    programs.clear()
    run(plan='other.yml')
    assert programs.runs == []
    (record,) = records('other')
    assert (record['arm'], record['score'], record['taken_from']) == ('R34', 50, 'plan')


def test_time_budget_skips_runs_that_do_not_fit(programs, run):
    """Each run takes a minute. Before its first run, the weight of MoD predicts two minutes."""
    code, out, _ = run('--time-budget', 2.5)
    assert code == 0
    assert programs.runs == ['dense-0', 'dense-1']
    assert '2 runs did not fit' in out
    run('--time-budget', 2.5)
    assert programs.runs[2:] == ['MoD-0', 'MoD-1']


def test_run_that_is_stopped_by_the_time_budget_has_not_failed(programs, run):
    programs.before['dense-0'] = fail_with(RunTimeout)
    code, out, _ = run('--time-budget', 1)
    assert code == 0
    assert 'plan, dense, seed 0: stopped; the next start resumes it' in out
    assert '2 runs did not fit' in out
    assert not Path('out/plan.json').exists()


def test_failure_is_reported_and_other_runs_continue(programs, run):
    programs.before['dense-0'] = fail_with(RunFailed(NO_SPACE))
    code, out, err = run()
    assert code == 1
    assert err == f'error: plan, dense, seed 0: {NO_SPACE}\n'
    assert 'plan, MoD, seed 0: skipped, because it needs plan, dense, seed 0' in out
    assert programs.runs == ['dense-0', 'dense-1', 'MoD-1']
    failures = json.loads(Path('out/plan.json').read_text())['failures']
    assert failures == {'dense, seed 0': NO_SPACE}
    assert f'dense, seed 0: not run, about 0:01:00, {NO_SPACE}' in run('--list')[1]
    assert run()[0] == 0
    assert 'failures' not in json.loads(Path('out/plan.json').read_text())


def test_results_of_other_settings_are_not_mixed(programs, run):
    run('--seeds', 0)
    Path('plan.yml').write_text(PLAN.replace('depth: 34', 'depth: 26'))
    words = 'dense was run with settings other than the current ones; choose other folders with'
    assert_fails(run(), words)
    assert programs.runs == ['dense-0', 'MoD-0']
    _, out, _ = run('--list')
    assert 'dense, seed 0: accuracy/top1 50, with settings other than the current ones' in out


def test_unfinished_run_of_other_settings_is_not_resumed(programs, run):
    programs.before['dense-0'] = interrupt
    run()
    Path('plan.yml').write_text(PLAN.replace('depth: 34', 'depth: 26'))
    assert_fails(run('--arms', 'dense', '--seeds', 0), 'was started with other settings')


@pytest.mark.parametrize(
    ('plan', 'options', 'words'),
    [
        ('plan.yml', ['--arms', 'dense', 'R9'], "has no arm 'R9'; choose from 'dense', 'MoD'"),
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
def test_invalid_options_raise_an_error(programs, run, plan, options, words):
    code, _, err = run(*options, plan=plan)
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith('error: ')
    assert words in line
    assert not programs.runs


@pytest.mark.parametrize('budget', ['-1', '0', 'nan', 'soon'])
def test_invalid_time_budget_raises_an_error(run, budget):
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
def test_misspelt_override_and_equal_arms_raise_an_error(programs, run, old, new, words):
    Path('plan.yml').write_text(DENSE_ONLY.replace(old, new) + '  plain: {}\n')
    assert_fails(run(), words)
    assert not programs.runs


def test_network_that_cannot_be_built_fails_without_stopping_other_runs(programs, run):
    plan = DENSE_ONLY.replace('seeds:', 'image_size: [32, 32]\nseeds:')
    Path('plan.yml').write_text(plan + '  none: {overrides: {model.backbone.c: 9999}}\n')
    assert_fails(run('--seeds', 0), 'error: plan, none, seed 0: config')
    assert programs.runs == ['dense-0']


# A config with several seeds is a plan whose runs are tested.


@pytest.fixture
def run_config(run):
    return lambda *options: run(*options, plan='config.py')


def train_and_test(*seeds):
    """The expected programs for these seeds."""
    folders = [f'config-{seed}' for seed in seeds]
    return [program for folder in folders for program in (folder, (folder, 'test'))]


def test_seeds_of_a_config_are_trained_and_tested(programs, run_config):
    code, out, _ = run_config('--seeds', 2, 0, 1)
    assert code == 0
    assert programs.runs == train_and_test(2, 0, 1)
    assert scores('config') == [('config', 0, 90), ('config', 1, 92), ('config', 2, 97)]
    assert records('config')[2]['metrics'] == {'accuracy/top1': 97.0}
    # ((90 - 93)^2 + (92 - 93)^2 + (97 - 93)^2) / (3 - 1) = 13
    assert cells(out, 'config') == ['config', '3', '93 ± 3.606']
    assert 'config, config, seed 2: accuracy/top1 97' in out
    assert Path('out/config/config-0/epoch_1.pth').exists()

    programs.clear()
    code, out, _ = run_config()  # 0 to 4
    assert (code, programs.runs) == (0, train_and_test(3, 4))
    assert '3 of 5 runs are done' in out
    assert cells(out, 'config')[:2] == ['config', '5']


@pytest.mark.parametrize(
    ('options', 'name'),
    [
        ([], 'best_2.pth'),
        (['--cfg-options', 'default_hooks.checkpoint.save_best=None'], 'epoch_2.pth'),
        (['--no-validate'], 'epoch_2.pth'),
    ],
)
def test_best_or_last_checkpoint_is_tested(programs, run_config, options, name):
    run_config('--seeds', 0, *options)
    assert programs.arguments[1][0].endswith(f'out/config/config-0/{name}')
    assert records('config')[0]['checkpoint'] == name


def test_failed_test_is_repeated_without_training(programs, run_config):
    programs.before['config-1', 'test'] = fail_with(RunFailed('no space left'))
    assert_fails(run_config('--seeds', 0, 1, 2), 'config, config, seed 1: no space left')
    assert programs.runs == train_and_test(0, 1, 2)
    programs.clear()
    assert run_config('--seeds', 0, 1, 2)[0] == 0
    assert programs.runs == [('config-1', 'test')]


def test_run_without_a_readable_checkpoint_does_not_start_again(programs, run_config):
    Path('out/config/config-0').mkdir(parents=True)
    Path('out/config/config-0/epoch_5.pth').write_bytes(b'PK')
    _, _, err = result = run_config('--seeds', 0)
    assert_fails(result, 'error: config, config, seed 0: cannot resume: checkpoint')
    assert 'epoch_5.pth cannot be read' in err
    assert not programs.runs


@pytest.mark.parametrize('options', [['--cfg-options', 'model.backbone.c=32'], ['--tta']])
def test_results_with_other_options_are_not_mixed(programs, run_config, options):
    run_config('--seeds', 0)
    assert_fails(run_config('--seeds', 1, *options), 'was run with settings other than the current')
    assert programs.runs == train_and_test(0)


def test_settings_may_change_after_a_failure_without_results(programs, run_config):
    programs.before['config-0'] = fail_with(RunFailed('out of memory'))
    assert run_config('--seeds', 0)[0] == 1
    assert run_config('--seeds', 0, '--cfg-options', 'train_dataloader.batch_size=8')[0] == 0


def test_metric_of_an_unknown_evaluator_must_be_given(programs, run_config):
    Path('config.py').write_text(CONFIG.replace("type='Accuracy'", "type='Other'"))
    assert_fails(
        run_config('--seeds', 0), 'choose one of the scores of its evaluation with --metric'
    )
    assert_fails(run_config('--seeds', 0, '--metric', 'mIoU'), 'has no score mIoU, but accuracy')
    assert run_config('--seeds', 0, '--metric', 'accuracy/top1')[0] == 0
    assert programs.runs == train_and_test(0)


def test_gpus_and_tta_are_passed_to_training_and_test(programs, run_config):
    options = ['--gpus', 2, '--tta', '--cfg-options', 'env_cfg.dist_cfg.backend=gloo']
    assert run_config('--seeds', 0, *options)[0] == 0
    assert programs.gpus == [2, 2]
    assert ['--tta' in arguments for arguments in programs.arguments] == [False, True]
