"""A plan really trained by tools/evidence/run.py, resumed, and told by tools/evidence/report.py."""

import json

import pytest

from mmcnnmod.cli.evidence_config import config_of, hash_of
from mmcnnmod.cli.evidence_report import PLANS
from mmcnnmod.cli.evidence_report import main as report
from mmcnnmod.evidence import read_plan, read_runs

from .conftest import ROOT, tail

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


def test_run_resume_and_report(data, run_python, tmp_path, in_process, capsys):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'tiny.yml').write_text(PLAN.format(config=ROOT / 'configs/evidence/smoke.py'))
    options = ['tiny.yml', '--data-root', str(data / 'imagenet'), '--results', 'out',
               '--work-dir', 'work']  # fmt: skip
    result = run_python(ROOT / 'tools/evidence/run.py', *options, cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    content = json.loads((tmp_path / 'out/tiny.json').read_text())
    (first,) = content['runs']
    assert [step for step, _ in first['curve']] == [1, 2]
    assert first['score'] == first['curve'][-1][1]
    assert 0 < first['train_seconds'] < first['seconds']
    assert content['costs']['tiny']['params'] > 1000

    # As after an interruption in the second epoch.
    (tmp_path / 'out/tiny.json').unlink()
    folder = tmp_path / 'work/tiny/tiny-0'
    (folder / 'epoch_2.pth').rename(folder / 'epoch_1.pth')
    shorten(folder / 'epoch_1.pth')
    result = run_python(ROOT / 'tools/evidence/run.py', *options, cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    assert 'resumed epoch: 1,' in (folder / 'train.log').read_text()
    (second,) = json.loads((tmp_path / 'out/tiny.json').read_text())['runs']
    assert second['seconds'] is None
    assert second['train_seconds'] > first['train_seconds']

    report(['--plans', 'tiny.yml', '--results', 'out', '--out', 'page.md'])
    assert '| tiny |' in (tmp_path / 'page.md').read_text()
    assert (tmp_path / 'page/tiny_curves.png').stat().st_size > 5000
    assert 'written to page.md' in capsys.readouterr().out


def shorten(path):
    """Make a checkpoint of the second epoch one of the first."""
    import torch

    content = torch.load(path, map_location='cpu', weights_only=False)
    for place in (content['meta'], content['training_state']):
        place['epoch'] = 1
        place['iter'] //= 2
    torch.save(content, path)


def test_the_page_is_what_the_results_say(tmp_path, monkeypatch):
    """tools/evidence/report.py was run after the last change."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/evidence').symlink_to(ROOT / 'docs/results/evidence')
    report(['--results', 'results/evidence', '--out', 'results.md'])
    assert (tmp_path / 'results.md').read_text() == (ROOT / 'docs/results.md').read_text()
    drawn = {path.name for path in (tmp_path / 'results').glob('*.png')}
    assert drawn == {path.name for path in (ROOT / 'docs/results').glob('*.png')}


def test_the_results_are_of_the_plans_settings():
    """So that no score stands beside settings that it was not reached with."""
    for toolbox in ('mmpretrain', 'mmdet', 'mmseg'):
        pytest.importorskip(toolbox)
    for path in (ROOT / 'docs/results/evidence').glob('*.json'):
        runs = read_runs(ROOT / f'configs/evidence/{path.stem}.yml')
        hashes = {run.arm.name: hash_of(config_of(run)) for run in runs if run.seed == 0}
        for run in json.loads(path.read_text())['runs']:
            assert run['config_hash'] == hashes[run['arm']], (path.name, run['arm'])


def test_every_plan_has_its_place_on_the_page():
    choices = {'gpu_short'}
    plans = {path.stem for path in (ROOT / 'configs/evidence').glob('*.yml')}
    assert plans - choices == set(PLANS)
    assert all(read_plan(ROOT / f'configs/evidence/{name}.yml').arms for name in PLANS)


def test_a_missing_folder_of_results_is_named(tmp_path, fails):
    line = fails(report, '--results', tmp_path / 'none', '--out', tmp_path / 'page.md')
    assert 'there is no folder' in line
    assert not (tmp_path / 'page.md').exists()
