"""A training of one second, whose checkpoints have all types of values that mmengine writes."""

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))

    def forward(self, *samples, mode='tensor'):
        loss = self.layer(torch.stack(samples)).square().sum()
        return dict(loss=loss) if mode == 'loss' else [loss]


class Data(torch.utils.data.Dataset):
    metainfo = dict(
        classes=('road', 'sky'),
        palette=np.array([[128, 64, 128], [70, 130, 180]], np.uint8),
        more=ConfigDict(label_map={0: 1}),
    )

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.full((2,), float(index))


class Score(BaseMetric):
    """Scores of three types; the scalar is 0.5 after the first epoch and then falls."""

    def process(self, *_):
        self.results.append(1)

    def compute_metrics(self, _):
        self.epochs = getattr(self, 'epochs', 0) + 1
        score = np.float64(0.5 / self.epochs)
        return {'mIoU': score, 'IoU': np.array([0.25, 0.75]), 'names': ['a', 'b']}


def runner(work_dir, epochs=2, **kwargs):
    """A runner with several schedulers, EMA and best checkpoints; kwargs are for mmengine's."""
    torch.manual_seed(0)
    loader = dict(batch_size=2, dataset=Data(), sampler=dict(type='DefaultSampler', shuffle=False))
    return Runner(
        model=Net(),
        work_dir=str(work_dir),
        experiment_name=f'{work_dir.name}-{epochs}',
        train_dataloader=loader,
        val_dataloader=loader,
        val_evaluator=[Score()],
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1), accumulative_counts=2),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
            dict(type='MultiStepLR', milestones=[1, 3]),
            dict(type='CosineAnnealingLR', T_max=4),
            dict(type='PolyLR', power=0.9, end=4),
            dict(type='OneCycleLR', eta_max=0.1, total_steps=9, by_epoch=False),
            dict(type='ReduceOnPlateauLR', monitor='mIoU'),
        ],
        custom_hooks=[EMAHook()],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='mIoU')),
        log_level='ERROR',
        **kwargs,
    )


def assert_same(one, other):
    """Assert that nested values are equal and of the same types."""
    assert type(one) is type(other)
    if isinstance(one, HistoryBuffer):
        one, other = one.data, other.data
    if isinstance(one, dict):
        assert set(one) == set(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, (torch.Tensor, np.ndarray)):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert (one == other).all()
    else:
        assert one == other
