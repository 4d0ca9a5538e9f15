"""The hash of settings: committed results and renamed classes."""

import json

import pytest
from mmengine.config import Config
from plan import read_runs
from settings import HASHED_AS, config_of, hash_of

from ...utils.tasks import ROOT


def test_committed_results_have_the_hashes_of_their_plans():
    for toolbox in ('mmpretrain', 'mmdet', 'mmseg'):
        pytest.importorskip(toolbox)
    for path in (ROOT / 'docs/results/experiments').glob('*.json'):
        runs = read_runs(ROOT / f'configs/experiments/{path.stem}.yml')
        hashes = {run.arm.name: hash_of(config_of(run)) for run in runs if run.seed == 0}
        for run in json.loads(path.read_text())['runs']:
            assert run['config_hash'] == hashes[run['arm']], (path.name, run['arm'])


def test_renamed_names_have_the_hash_of_the_old_names():
    def hash_with(name):
        return hash_of(Config(dict(train_dataloader=dict(pin_memory=True, dataset=name))))

    for new, old in HASHED_AS.items():
        assert hash_with(new) == hash_with(old) != hash_with(f'{new}x')
    assert len(set(map(hash_with, HASHED_AS))) == len(HASHED_AS)
