"""The content of batches depends on the seed, the epoch and their number alone."""

import gc

import pytest
import torch
from mmengine.hooks import Hook

from mmcnnmod.errors import UserError

from ..utils.mmengine_run import assert_same
from ..utils.training import (
    make_runner,
    result,
)


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


def test_data_of_less_than_a_batch(tmp_path):
    """mmengine's own loop would never end."""
    runner = make_runner(tmp_path, by_epoch=False, drop_last=True, batch_size=12, val=False)
    with pytest.raises(UserError, match='too few for a batch: use a smaller batch_size'):
        runner.train()
