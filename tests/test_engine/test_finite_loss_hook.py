"""A loss that is not finite stops a training."""

import pytest
import torch
from mmengine.hooks import Hook

from mmcnnmod.errors import UserError

from ..utils.training import last, make_runner


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
