"""Programs: run.py trains and resumes a plan and a config, report.py writes a report."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ...utils.tasks import ROOT, TASKS, shrink, tail

PLAN = """
title: A tiny plan
config: {config}
metric: accuracy/top1
image_size: [16, 32]
seeds: [0]
overrides:
  model.backbone: {{base_channels: 8, stem_channels: 8, c: 8, r: 4}}
  model.head: {{in_channels: 64, num_classes: 2}}
  train_cfg: {{max_epochs: 2, val_interval: 1}}
  default_hooks.checkpoint.interval: 1
  default_hooks.logger.interval: 1
  custom_hooks: [{{type: ChannelsLastHook}}]
arms:
  tiny:
"""


def test_run_resume_and_report(data, run_python, tmp_path):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'tiny.yml').write_text(PLAN.format(config=ROOT / 'configs/experiments/smoke.py'))
    options = ['tiny.yml', '--data-root', str(data / 'imagenet'), '--results', 'out',
               '--work-dir', 'work']  # fmt: skip
    result = run_python(ROOT / 'tools/experiments/run.py', *options, cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    content = json.loads((tmp_path / 'out/tiny.json').read_text())
    (first,) = content['runs']
    assert [step for step, _ in first['curve']] == [1, 2]
    assert first['score'] == first['curve'][-1][1]
    assert 0 < first['train_seconds'] < first['seconds']
    assert content['costs']['tiny']['params'] > 1000

    # As if interrupted in the second epoch.
    (tmp_path / 'out/tiny.json').unlink()
    folder = tmp_path / 'work/tiny/tiny-0'
    (folder / 'epoch_2.pth').rename(folder / 'epoch_1.pth')
    set_to_first_epoch(folder / 'epoch_1.pth')
    result = run_python(ROOT / 'tools/experiments/run.py', *options, cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    assert 'resumed epoch: 1,' in (folder / 'train.log').read_text()
    (second,) = json.loads((tmp_path / 'out/tiny.json').read_text())['runs']
    assert second['seconds'] is None
    assert second['train_seconds'] > first['train_seconds']

    result = run_python(
        ROOT / 'tools/experiments/report.py',
        '--plans', 'tiny.yml', '--results', 'out', '--out', 'report.md', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert '| tiny |' in (tmp_path / 'report.md').read_text()
    assert (tmp_path / 'report/tiny_curves.png').stat().st_size > 5000
    assert 'written to report.md' in result.stdout


def set_to_first_epoch(path):
    """Change a checkpoint of the second epoch to the first."""
    content = torch.load(path, map_location='cpu', weights_only=False)
    for state in (content['meta'], content['training_state']):
        state['epoch'] = 1
        state['iter'] //= 2
    torch.save(content, path)


def test_config_with_seeds_is_tested_and_resumed_by_the_old_program(data, run_python, tmp_path):
    pytest.importorskip('mmpretrain')
    config, name, *_, metric = TASKS['mmpretrain']
    options = [
        ROOT / config, '--seeds', 3, '--work-dir', 'out', '--data-root', data / name, '--device',
        'cpu', '--cfg-options', *shrink('mmpretrain'), 'train_cfg.max_epochs=2',
        'default_hooks.checkpoint.save_best=auto', 'default_hooks.checkpoint.interval=1',
    ]  # fmt: skip
    result = run_python(ROOT / 'tools/experiments/run.py', *options, cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    stem = Path(config).stem
    results, folder = tmp_path / f'out/{stem}.json', tmp_path / f'out/{stem}/{stem}-3'
    (first,) = json.loads(results.read_text())['runs']
    assert first['checkpoint'].startswith('best_accuracy')
    assert (folder / first['checkpoint']).is_file()
    assert first['score'] == first['metrics'][metric]
    assert Config.fromfile(f'{folder}.py').randomness.seed == 3

    results.unlink()
    (folder / 'epoch_2.pth').unlink()
    result = run_python(ROOT / 'tools/train_seeds.py', *options, '--resume', cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    assert 'tools/train_seeds.py is now tools/experiments/run.py' in result.stderr
    assert 'resumed epoch: 1,' in (folder / 'train.log').read_text()
    (second,) = json.loads(results.read_text())['runs']
    assert second['seconds'] is None
    assert second['checkpoint'].startswith('best_accuracy')


@pytest.mark.parametrize('program', ['run.py', 'report.py'])
def test_old_program_prints_its_new_path(run_python, tmp_path, program):
    result = run_python(ROOT / 'tools/evidence' / program, '--help', cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    assert f'tools/evidence/{program} is now tools/experiments/{program}' in result.stderr
    assert '--results DIR' in result.stdout
