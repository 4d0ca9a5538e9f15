"""Small trainings of milliseconds, with all that makes one hard to resume."""

import random
import uuid

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from torch import nn


class Net(BaseModel):
    """Draws random numbers in its forward, as dropout does."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)
        )

    def forward(self, inputs, mode='tensor'):
        outputs = self.layers(inputs)
        noise = torch.rand(1) + random.random() + np.random.rand()
        if mode == 'loss':
            return dict(loss=(outputs - noise.to(outputs)).square().mean())
        return [outputs.sum().item()]


class Data(torch.utils.data.Dataset):
    """Draws random numbers when it loads, as augmentation does."""

    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([index, random.random(), np.random.rand()]) + torch.rand(3))


class Score(BaseMetric):
    """Any score that the weights decide; it counts how often it was asked for."""

    def __init__(self, asked=None):
        super().__init__()
        self.asked = [] if asked is None else asked

    def process(self, _, outputs):
        self.results += outputs

    def compute_metrics(self, results):
        self.asked.append(1)
        return {'acc': sum(results)}


@OPTIM_WRAPPERS.register_module(force=True)
class BFloat16OnCPU(OptimWrapper):
    """mmengine's AmpOptimWrapper needs a GPU."""

    def optim_context(self, model):
        return torch.autocast('cpu', torch.bfloat16)


def make_runner(work_dir, by_epoch=True, workers=0, ema=False, amp=False, resume=None, **more):
    """Three epochs of four batches, or ten iterations of which a pass has four.

    Args:
        work_dir (Path): Its work dir.
        by_epoch (bool): Which kind of loop.
        workers (int): That load data, and stay.
        ema (bool): With EMAHook.
        amp (bool): In bfloat16.
        resume (str): A checkpoint to go on from.
        **more: ``checkpoint`` and ``wrapper``: arguments of the checkpoint hook and the optimizer
            wrapper; ``hooks``: custom ones; ``sampler``, ``batch_size``, ``drop_last``;
            ``loader``: arguments of torch's own; ``seed``; ``asked``: of the score; ``val``:
            whether to validate.
    """
    loader = settings = dict(
        batch_size=more.get('batch_size', 3),
        drop_last=more.get('drop_last', False),
        num_workers=workers,
        persistent_workers=workers > 0,
        dataset=Data(),
        sampler=dict(type=more.get('sampler', 'DefaultSampler'), shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    if 'loader' in more:
        loader = torch.utils.data.DataLoader(Data(), batch_size=3, **more['loader'])
    val = more.get('val', True)
    checkpoint = dict(type='SafeCheckpointHook', interval=1, by_epoch=by_epoch)
    torch.manual_seed(0)
    return Runner(
        model=Net(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader={**settings, 'sampler': dict(type='DefaultSampler', shuffle=False)}
        if val
        else None,
        val_evaluator=[Score(more.get('asked'))] if val else None,
        train_cfg=dict(by_epoch=True, max_epochs=3)
        if by_epoch
        else dict(by_epoch=False, max_iters=10, val_interval=4),
        val_cfg=dict() if val else None,
        optim_wrapper=dict(
            type='BFloat16OnCPU' if amp else 'OptimWrapper',
            optimizer=dict(type='AdamW', lr=0.01),
            **more.get('wrapper', {}),
        ),
        param_scheduler=[
            dict(type='CosineAnnealingLR', T_max=12, by_epoch=False),
            *([dict(type='ReduceOnPlateauLR', monitor='acc', rule='less', patience=0)] * val),
        ],
        default_hooks=dict(checkpoint={**checkpoint, **more.get('checkpoint', {})}),
        custom_hooks=[*([dict(type='EMAHook')] if ema else []), *more.get('hooks', [])],
        randomness=dict(seed=more.get('seed', 0)),
        experiment_name=str(uuid.uuid4()),  # mmengine keeps what it made for a name
        resume=resume is not None,
        load_from=resume,
        log_level='ERROR',
    )
