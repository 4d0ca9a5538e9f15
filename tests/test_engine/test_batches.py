"""The content of a batch depends only on the seed, the epoch and the number of the batch."""

import pytest
from mmengine.hooks import Hook

from mmcnnmod.errors import UserError

from ..utils.training import make_runner


def test_random_numbers_differ_between_epochs(tmp_path):
    class Record(Hook):
        numbers = []

        def before_train_iter(self, runner, batch_idx, data_batch):
            self.numbers += data_batch['inputs'][:, 1].tolist()

    make_runner(tmp_path, hooks=[Record()], val=False).train()
    assert len(set(Record.numbers)) == len(Record.numbers) == 3 * 11


def test_too_few_data_for_a_batch_raise_an_error(tmp_path):
    """mmengine's own loop would never end."""
    runner = make_runner(tmp_path, by_epoch=False, drop_last=True, batch_size=12, val=False)
    with pytest.raises(
        UserError, match='too few training images for a batch: use a smaller batch_size'
    ):
        runner.train()
