"""The runner of plans: order, resumption, a time budget, what arms need, mistakes."""

import json
import logging
import signal
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmcnnmod.cli import evidence as program
from mmcnnmod.cli import evidence_training
from mmcnnmod.cli.evidence import main
from mmcnnmod.cli.evidence_progress import seconds_left
from mmcnnmod.cli.programs import OutOfTime, RunFailed
from mmcnnmod.evidence.lock import locked

from .test_seeds import CONFIG

PLAN = """
title: Two arms
config: config.py
metric: accuracy/top1
seeds: [0, 1]
overrides: {train_cfg.max_epochs: 2}
arms:
  dense: {overrides: {model.backbone.depth: 34}}
  MoD:
    baseline: dense
    needs: dense
    weight: 2
    overrides: {model.backbone.init_cfg: {type: Pretrained, checkpoint: '{checkpoint}'}}
"""


class Trainings:
    """Stands in for tools/train.py, and notes what was run; a second on the clock each."""

    def __init__(self):
        self.runs = []
        self.words = []
        self.disturb = {}  # folder's name: what happens instead
        self.now = 0.0
        self.loss = 1.0

    def __call__(self, name, gpus, config, *words, show, seconds, keep_open):
        words = [str(word) for word in words]
        folder = Path(words[words.index('--work-dir') + 1])
        self.runs.append(folder.name)
        self.words.append(words)
        self.now += 60
        if folder.name in self.disturb:
            self.disturb.pop(folder.name)(folder)
        show('Epoch(train) [1][1/2]  eta: 0:00:09  time: 1\n')
        seed = Config.fromfile(config).randomness.seed
        log(folder, {'loss': self.loss, 'time': 4, 'data_time': 1})
        log(folder, {'accuracy/top1': 40, 'step': 1}, {'accuracy/top1': 50 + seed, 'step': 2})
        (folder / 'runtime_stats.json').write_text('{"train_seconds": 1.0, "peak_memory_mb": 2}')
        for epoch in (1, 2):
            save_checkpoint(folder / f'epoch_{epoch}.pth')


def log(folder, *lines):
    """As mmengine does."""
    path = folder / 'start' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        file.writelines(f'{json.dumps(line)}\n' for line in lines)


def save_checkpoint(path):
    torch.save({'state_dict': {'x': torch.zeros(1)}, 'meta': {}}, path)


@pytest.fixture
def trainings(monkeypatch, tmp_path):
    pytest.importorskip('mmpretrain')
    stand_in = Trainings()
    monkeypatch.setattr(evidence_training, 'run_program', stand_in)
    # Not time's own, by which a collected loader of another test waits for its workers.
    for module in (program, evidence_training):
        monkeypatch.setattr(module, 'monotonic', lambda: stand_in.now)
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'config.py').write_text(CONFIG)
    (tmp_path / 'plan.yml').write_text(PLAN)
    handler = signal.getsignal(signal.SIGTERM)
    yield stand_in
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(trainings, capsys):
    """Run the program; gives its exit code, output and errors."""

    def run(*options):
        code = 0
        try:
            main(['plan.yml', '--results', 'out', '--work-dir', 'out', *map(str, options)])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def recorded():
    return [
        (r['arm'], r['seed'], r['score'])
        for r in json.loads(Path('out/plan.json').read_text())['runs']
    ]


def test_every_run_is_recorded_and_not_run_again(trainings, run):
    code, out, _ = run()
    assert code == 0
    assert trainings.runs == ['dense-0', 'MoD-0', 'dense-1', 'MoD-1']
    assert recorded() == [('dense', 0, 50), ('dense', 1, 51), ('MoD', 0, 50), ('MoD', 1, 51)]
    assert 'plan, MoD, seed 0 (2 of 4, about 0:05:00 left)' in out  # weights 2, 1 and 2
    record = json.loads(Path('out/plan.json').read_text())['runs'][0]
    assert record['seconds'] == 60
    assert record['data_share'] == 0.25
    assert record['versions']['torch'] == torch.__version__
    assert 'eta: 0:00:09' in Path('out/plan/dense-0/train.log').read_text()
    assert not Path('out/plan/dense-0/epoch_1.pth').exists()

    trainings.runs.clear()
    code, out, _ = run()
    assert (code, trainings.runs) == (0, [])
    assert '4 of 4 runs are done' in out
    _, out, _ = run('--list')
    assert 'plan, dense, seed 1: accuracy/top1 51' in out


def test_the_frozen_config_has_overrides_seed_data_and_the_needed_checkpoint(trainings, run):
    run('--seeds', 1, '--data-root', 'there')
    cfg = Config.fromfile('out/plan/MoD-1.py')
    assert cfg.randomness.seed == 1
    assert cfg.train_dataloader.dataset.data_root == 'there/'
    assert cfg.model.backbone.depth == 18
    assert cfg.model.backbone.init_cfg.checkpoint.endswith('/out/plan/dense-1/epoch_2.pth')
    assert Config.fromfile('out/plan/dense-1.py').model.backbone.depth == 34


@pytest.mark.parametrize('stop', [KeyboardInterrupt, SystemExit(143)])
def test_an_interrupted_run_goes_on_from_its_newest_whole_checkpoint(trainings, run, stop):
    def interrupt(folder):
        save_checkpoint(folder / 'epoch_1.pth')
        log(folder, {'accuracy/top1': 40, 'step': 1})
        (folder / 'epoch_2.pth').write_bytes((folder / 'epoch_1.pth').read_bytes()[:-99])
        log(folder, {'accuracy/top1': 60, 'step': 2})
        raise stop

    trainings.disturb['MoD-0'] = interrupt
    code, _, err = run()
    assert code == (130 if stop is KeyboardInterrupt else 143)
    assert 'interrupted in plan, MoD, seed 0; the same command goes on' in err
    assert recorded() == [('dense', 0, 50)]
    trainings.runs.clear()
    trainings.words.clear()
    assert run()[0] == 0
    assert trainings.runs == ['MoD-0', 'dense-1', 'MoD-1']
    words = trainings.words[0]
    assert words[words.index('--resume') + 1].endswith('out/plan/MoD-0/epoch_1.pth')
    assert '--resume' not in trainings.words[1]
    content = json.loads(Path('out/plan.json').read_text())['runs']
    assert [r['seconds'] for r in content if r['arm'] == 'MoD'] == [None, 60]


def test_a_checkpoint_whose_evaluation_is_missing_is_not_gone_on_from(trainings, run):
    """mmengine writes it before the evaluation, and would not make up for that."""

    def interrupt(folder):
        save_checkpoint(folder / 'epoch_1.pth')
        log(folder, {'accuracy/top1': 40, 'step': 1})
        save_checkpoint(folder / 'epoch_2.pth')
        raise KeyboardInterrupt

    trainings.disturb['dense-0'] = interrupt
    run('--seeds', 0)
    trainings.words.clear()
    assert run('--seeds', 0)[0] == 0
    words = trainings.words[0]
    assert words[words.index('--resume') + 1].endswith('out/plan/dense-0/epoch_1.pth')


def test_a_run_without_its_last_evaluation_is_not_recorded(trainings, run):
    Path('config.py').write_text(CONFIG.replace('max_epochs=200', 'max_epochs=2'))
    Path('plan.yml').write_text(PLAN.replace('max_epochs: 2', 'max_epochs: 3'))
    code, _, err = run('--arms', 'dense', '--seeds', 0)
    assert code == 1
    assert 'was evaluated at step 2 last, not at the end, 3' in err
    assert not Path('out/plan.json').exists()


def test_a_score_of_another_name_is_noticed_before_training_goes_on(trainings, run):
    def interrupt(folder):
        save_checkpoint(folder / 'epoch_1.pth')
        log(folder, {'accuracy/top1': 40, 'step': 1})
        raise KeyboardInterrupt

    Path('plan.yml').write_text(PLAN.replace('accuracy/top1', 'mIoU'))
    trainings.disturb['dense-0'] = interrupt
    run('--arms', 'dense', '--seeds', 0)
    code, _, err = run('--arms', 'dense', '--seeds', 0)
    assert code == 1
    assert 'has no score mIoU, but accuracy/top1; mend the plan' in err
    assert trainings.runs == ['dense-0']


def test_a_loss_that_is_not_finite_is_a_failure(trainings, run):
    trainings.loss = float('nan')
    code, _, err = run('--arms', 'dense', '--seeds', 0)
    assert code == 1
    assert 'the loss ended as nan' in err


def test_what_another_program_trains_is_left_alone(trainings, run):
    Path('out/plan/dense-0').mkdir(parents=True)
    with locked(Path('out/plan/dense-0')):
        code, out, _ = run('--arms', 'dense')
    assert code == 0
    assert 'another process works in' in out
    assert trainings.runs == ['dense-1']


def test_the_same_settings_in_two_plans_are_trained_once(trainings, run):
    run('--arms', 'dense', '--seeds', 0)
    Path('other.yml').write_text(
        PLAN.split('  MoD:')[0].replace('  dense:', '  R34:').replace('[0, 1]', '[0]')
    )
    trainings.runs.clear()
    main(['other.yml', '--results', 'out', '--work-dir', 'out'])
    assert trainings.runs == []
    (record,) = json.loads(Path('out/other.json').read_text())['runs']
    assert (record['arm'], record['score'], record['taken_from']) == ('R34', 50, 'plan')


def test_a_time_budget_skips_what_does_not_fit(trainings, run):
    """Each run takes a minute, but before the first MoD its weight says two."""
    code, out, _ = run('--time-budget', 2.5)
    assert code == 0
    assert trainings.runs == ['dense-0', 'dense-1']
    assert '2 runs did not fit' in out
    run('--time-budget', 2.5)
    assert trainings.runs[2:] == ['MoD-0', 'MoD-1']


def test_the_run_that_is_cut_is_no_failure(trainings, run):
    def cut(folder):
        raise OutOfTime

    trainings.disturb['dense-0'] = cut
    code, out, _ = run('--time-budget', 1)
    assert code == 0
    assert 'plan, dense, seed 0: cut; the next start goes on with it' in out
    assert '2 runs did not fit' in out
    assert not Path('out/plan.json').exists()


def test_a_failure_gets_one_line_and_the_others_run(trainings, run):
    def fail(folder):
        raise RunFailed('failed in train (exit code 1): no space left')

    trainings.disturb['dense-0'] = fail
    code, out, err = run()
    assert code == 1
    assert err == 'error: plan, dense, seed 0: failed in train (exit code 1): no space left\n'
    assert 'plan, MoD, seed 0: waits for plan, dense, seed 0' in out
    assert trainings.runs == ['dense-0', 'dense-1', 'MoD-1']
    assert run()[0] == 0


def test_results_of_other_settings_are_not_mixed(trainings, run):
    run('--seeds', 0)
    Path('plan.yml').write_text(PLAN.replace('depth: 34', 'depth: 26'))
    code, _, err = run()
    assert code == 1
    assert 'dense was run with other settings' in err
    assert trainings.runs == ['dense-0', 'MoD-0']


def test_a_half_trained_run_of_other_settings_is_not_resumed(trainings, run):
    def interrupt(folder):
        save_checkpoint(folder / 'epoch_1.pth')
        raise KeyboardInterrupt

    trainings.disturb['dense-0'] = interrupt
    run()
    Path('plan.yml').write_text(PLAN.replace('depth: 34', 'depth: 26'))
    code, _, err = run('--arms', 'dense', '--seeds', 0)
    assert code == 1
    assert 'is half-trained with other settings' in err


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--arms', 'dense', 'R9'], "--arms: the plan has no 'R9'; choose from MoD, dense"),
        (['--seeds', 7], '--seeds: the plan has no 7; choose from 0, 1'),
        (['--arms', 'MoD'], 'plan, MoD, seed 0 needs plan, dense, seed 0, which was not run'),
        (['--results', '/proc/x'], '--results /proc/x: '),
    ],
)
def test_bad_options_get_one_line(trainings, run, options, words):
    code, _, err = run(*options)
    assert code == 1
    (line,) = err.splitlines()
    assert words in line
    assert not trainings.runs


@pytest.mark.parametrize('budget', ['-1', '0', 'nan', 'soon'])
def test_a_budget_is_a_length_of_time(run, budget):
    code, _, err = run('--time-budget', budget)
    assert code == 2
    assert 'argument --time-budget: invalid minutes value' in err


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ('model.backbone.depth: 34', 'modle.depth: 34', 'override modle.depth has no place'),
        ('{overrides: {model.backbone.depth: 34}}', '{}', 'dense and plain have the same settings'),
    ],
)
def test_an_arm_that_is_not_what_it_says(trainings, run, old, new, words):
    plan = PLAN.split('  MoD:')[0].replace(old, new)
    Path('plan.yml').write_text(plan + '  plain: {}\n')
    code, _, err = run()
    assert code == 1
    assert words in err
    assert not trainings.runs


def test_a_network_that_cannot_be_built_is_one_failure(trainings, run):
    plan = PLAN.split('  MoD:')[0].replace('seeds:', 'image_size: [32, 32]\nseeds:')
    Path('plan.yml').write_text(plan + '  none: {overrides: {model.backbone.c: 9999}}\n')
    code, _, err = run('--seeds', 0)
    assert code == 1
    assert err.startswith('error: plan, none, seed 0: config')
    assert trainings.runs == ['dense-0']


def test_the_list_says_what_is_outdated(trainings, run):
    run('--arms', 'dense', '--seeds', 0)
    Path('plan.yml').write_text(PLAN.replace('depth: 34', 'depth: 26'))
    _, out, _ = run('--list')
    assert 'dense, seed 0: accuracy/top1 50, with other settings than those of the plan' in out


@pytest.mark.parametrize(
    ('line', 'seconds'),
    [
        ('Epoch(train) [1][ 2/10]  lr: 5e-02  eta: 0:01:30  time: 1.6', 90),
        ('Iter(train) [ 20/400]  eta: 1 day, 2:00:01  time: 1.6', 93601),
        ('Epoch(val) [1][2/10]  eta: 0:01:30', None),
        ('nothing', None),
    ],
)
def test_the_time_left_is_read_off_a_line(line, seconds):
    assert seconds_left(line) == seconds
