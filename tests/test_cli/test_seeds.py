"""Several seeds: which are trained, from where, what is tested, and the numbers at the end."""

import json
import logging
import signal
from pathlib import Path

import pytest
import torch

from mmcnnmod.cli import seeds as seeds_program
from mmcnnmod.cli.programs import RunFailed
from mmcnnmod.cli.seed_record import SeedRecord
from mmcnnmod.cli.seeds import main
from mmcnnmod.errors import UserError

# As much of a config as is needed before training; CIFAR downloads itself, so no data either.
CONFIG = """
default_scope = 'mmpretrain'
data_root = 'data/cifar10/'
model = dict(type='ImageClassifier', backbone=dict(type='ResNetMoD_CIFAR', depth=18))
train_dataloader = dict(dataset=dict(type='CIFAR10', data_root=data_root), num_workers=0)
val_dataloader = train_dataloader
test_dataloader = train_dataloader
train_cfg = dict(by_epoch=True, max_epochs=200)
val_cfg = dict()
default_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best='auto'))
"""
SCORES = {0: 90.0, 1: 92.0, 2: 97.0}


def save_checkpoint(path, best):
    """A checkpoint as far as choosing one needs it; mmengine keeps a record of the best in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runtime_info = {'best_ckpt': str(path.with_name(best))}
    torch.save(
        {'state_dict': {'x': torch.zeros(1)}, 'message_hub': {'runtime_info': runtime_info}}, path
    )


class Programs:
    """Stands in for training and testing, and notes what was run."""

    def __init__(self):
        self.runs = []
        self.disturb = {}  # (program, seed): what happens instead

    def __call__(self, name, gpus, *arguments):
        words = [str(word) for word in arguments]
        folder = Path(words[words.index('--work-dir') + 1])
        seed = int((folder if name == 'train' else folder.parent).name.removeprefix('seed-'))
        self.runs.append((name, seed))
        self.words = words
        if (name, seed) in self.disturb:
            self.disturb.pop((name, seed))(folder)
        if name == 'train':
            assert words[-1] == f'randomness.seed={seed}'
            save_checkpoint(folder / 'epoch_199.pth', 'best_accuracy_top1_epoch_7.pth')
            save_checkpoint(folder / 'epoch_200.pth', 'best_accuracy_top1_epoch_150.pth')
            (folder / 'best_accuracy_top1_epoch_7.pth').touch()
            (folder / 'best_accuracy_top1_epoch_150.pth').touch()
        else:
            out = Path(words[words.index('--out') + 1])
            out.parent.mkdir(exist_ok=True)
            out.write_text(json.dumps({'accuracy/top1': SCORES[seed]}))


@pytest.fixture
def programs(monkeypatch, tmp_path):
    pytest.importorskip('mmpretrain')
    stand_in = Programs()
    monkeypatch.setattr(seeds_program, 'run_program', stand_in)
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield stand_in
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(capsys, tmp_path):
    """Run the program; gives its exit code, output and errors."""

    (tmp_path / 'config.py').write_text(CONFIG)

    def run(*options):
        code = 0
        try:
            main(['config.py', '--work-dir', str(tmp_path / 'out'), *map(str, options)])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def results(tmp_path):
    return json.loads((tmp_path / 'out/seeds.json').read_text())


def test_mean_and_sample_deviation(programs, run, tmp_path):
    code, out, _ = run('--seeds', 2, 0, 1)
    assert code == 0
    assert programs.runs == [(name, seed) for seed in (2, 0, 1) for name in ('train', 'test')]
    content = results(tmp_path)
    assert content['mean'] == {'accuracy/top1': pytest.approx(93)}
    # ((90 - 93)^2 + (92 - 93)^2 + (97 - 93)^2) / (3 - 1) = 13
    assert content['sample_standard_deviation'] == {'accuracy/top1': pytest.approx(13**0.5)}
    assert list(content['seeds']) == ['0', '1', '2']
    assert content['seeds']['2']['metrics'] == {'accuracy/top1': 97.0}
    assert content['seeds']['2']['versions']['torch'] == torch.__version__
    assert content['config'] == 'config.py'
    for row in (['mean', '93'], ['deviation', '3.606'], ['2', '97']):
        assert any(all(cell in line for cell in row) for line in out.splitlines()), row
    assert 'seed 0: 2 of 3' in out


def test_the_best_checkpoint_is_tested_or_the_last(programs, run, tmp_path):
    run('--seeds', 0)
    assert programs.words[1] == str(tmp_path / 'out/seed-0/best_accuracy_top1_epoch_150.pth')
    assert results(tmp_path)['seeds']['0']['checkpoint'] == 'best_accuracy_top1_epoch_150.pth'
    options = ['--cfg-options', 'default_hooks.checkpoint.save_best=None']
    run('--seeds', 0, '--work-dir', tmp_path / 'last', *options)
    assert programs.words[1] == str(tmp_path / 'last/seed-0/epoch_200.pth')
    run('--seeds', 0, '--work-dir', tmp_path / 'blind', '--no-validate')
    assert programs.words[1] == str(tmp_path / 'blind/seed-0/epoch_200.pth')


def test_every_seed_runs_the_config_with_all_options(programs, run, tmp_path):
    run('--seeds', 0, '--data-root', '/there', '--cfg-options', 'train_cfg.max_epochs=3')
    assert programs.words[0] == str(tmp_path / 'out/seeds.py')
    frozen = (tmp_path / 'out/seeds.py').read_text()
    assert "data_root='/there/'" in frozen
    assert 'max_epochs=3' in frozen


def test_finished_seeds_are_not_trained_again(programs, run, tmp_path):
    run('--seeds', 0, 1)
    programs.runs.clear()
    code, out, _ = run('--seeds', 0, 1, 2)
    assert (code, programs.runs) == (0, [('train', 2), ('test', 2)])
    assert 'seed 2: 3 of 3, about 0:00:00 left' in out
    assert results(tmp_path)['mean'] == {'accuracy/top1': pytest.approx(93)}


@pytest.mark.parametrize('program', ['train', 'test'])
def test_a_seed_that_fails_gives_one_line_and_the_others_run(programs, run, tmp_path, program):
    def fail(folder):
        raise RunFailed(f'failed in {program} (exit code 1): no space left')

    programs.disturb[program, 1] = fail
    code, _, err = run('--seeds', 0, 1, 2)
    assert code == 1
    assert err.splitlines() == [f'error: seed 1 failed in {program} (exit code 1): no space left']
    assert programs.runs[-2:] == [('train', 2), ('test', 2)]
    content = results(tmp_path)
    assert content['mean'] == {'accuracy/top1': pytest.approx((90 + 97) / 2)}
    assert 'no space left' in content['seeds']['1']['failure']

    programs.runs.clear()
    assert run('--seeds', 0, 1, 2)[0] == 0
    assert programs.runs == [('train', 1), ('test', 1)][program == 'test' :]
    assert 'failure' not in results(tmp_path)['seeds']['1']


def test_an_interrupted_seed_resumes(programs, run, tmp_path):
    def interrupt(folder):
        save_checkpoint(folder / 'epoch_9.pth', 'best_accuracy_top1_epoch_9.pth')
        save_checkpoint(folder / 'epoch_10.pth', 'best_accuracy_top1_epoch_9.pth')
        # The next was being written.
        (folder / 'epoch_11.pth').write_bytes((folder / 'epoch_9.pth').read_bytes()[:-99])
        raise KeyboardInterrupt

    programs.disturb['train', 1] = interrupt
    code, _, _ = run('--seeds', 0, 1, 2)
    assert 'interrupted in seed 1' in code
    assert '--resume' in code
    assert list(results(tmp_path)['seeds']) == ['0']

    code, _, err = run('--seeds', 0, 1, 2)
    assert code == 1
    assert f'{tmp_path}/out/seed-1 is half-trained: go on with --resume' in err

    programs.runs.clear()
    starts = []
    programs.disturb['train', 1] = lambda folder: starts.append(list(programs.words))
    assert run('--seeds', 0, 1, 2, '--resume')[0] == 0
    assert [seed for name, seed in programs.runs if name == 'train'] == [1, 2]
    (words,) = starts
    assert words[words.index('--resume') + 1] == str(tmp_path / 'out/seed-1/epoch_10.pth')
    content = results(tmp_path)['seeds']
    assert 'seconds' not in content['1']  # not the time of the whole seed
    assert 'seconds' in content['2']


def test_a_seed_without_a_readable_checkpoint_is_not_trained_anew(programs, run, tmp_path):
    (tmp_path / 'out/seed-0').mkdir(parents=True)
    (tmp_path / 'out/seed-0/epoch_5.pth').write_bytes(b'PK')
    code, _, err = run('--seeds', 0, '--resume')
    assert code == 1
    assert 'error: seed 0 cannot resume: checkpoint' in err
    assert 'epoch_5.pth cannot be read' in err
    assert not programs.runs


@pytest.mark.parametrize('options', [['--cfg-options', 'model.backbone.c=32'], ['--tta']])
def test_results_of_different_settings_are_not_mixed(programs, run, options):
    run('--seeds', 0)
    code, _, err = run('--seeds', 1, *options)
    assert code == 1
    assert 'were trained with other settings' in err
    assert '--work-dir' in err
    assert ('train', 1) not in programs.runs


def test_settings_that_no_seed_could_begin_with_may_be_changed(programs, run):
    def fail(folder):
        raise RunFailed('failed in train (exit code 1): out of memory')

    programs.disturb['train', 0] = fail
    assert run('--seeds', 0)[0] == 1
    assert run('--seeds', 0, '--cfg-options', 'train_dataloader.batch_size=8')[0] == 0


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--launcher', 'pytorch'], '--gpus N'),
        (['--resume', 'x.pth'], 'each seed goes on from its own'),
        (['--seeds', '-1'], 'a seed is a number from 0'),
        (['--gpus', '0'], 'at least 1'),
        (['--cfg-options', 'test_dataloader=None'], 'no test_dataloader'),
    ],
)
def test_bad_options_get_one_line(programs, run, options, words):
    code, _, err = run(*options)
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith('error: ')
    assert words in line
    assert not programs.runs


def test_damaged_results_are_named(tmp_path):
    (tmp_path / 'seeds.json').write_text('{"seeds": ')
    with pytest.raises(UserError, match=r'seeds\.json is damaged'):
        SeedRecord(tmp_path / 'seeds.json', 'config.py')
