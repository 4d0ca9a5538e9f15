"""The hook that stops a training whose loss is not finite."""

import pytest
import torch
from mmengine.hooks import Hook

from mmcnnmod.errors import UserError

from ..utils.training import last_checkpoint, make_runner


@pytest.mark.parametrize('loss', [float('nan'), float('inf')])
def test_loss_that_is_not_finite_stops_training(tmp_path, loss):
    class ReplaceLoss(Hook):
        priority = 'HIGHEST'

        def after_train_iter(self, runner, batch_idx, data_batch, outputs):
            if runner.iter == 5:
                outputs['loss'] = torch.tensor(loss)

    hooks = [dict(type='FiniteLossHook'), ReplaceLoss()]
    with pytest.raises(UserError, match=rf'not finite in iteration 6 \(loss {loss}\): try a lower'):
        make_runner(tmp_path, by_epoch=False, hooks=hooks).train()
    assert last_checkpoint(tmp_path).name == 'iter_5.pth'
