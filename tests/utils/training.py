"""Models, data and runners for trainings that take milliseconds."""

import random
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.layers import MoDBlock, basic_block

CHANNELS, SELECTED = 8, 2
EACH_ITERATION = dict(by_epoch=False, interval=1)  # of a checkpoint hook
# What a resumed training must have in common with an uninterrupted one.
RESULT = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'training_state')


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
    """A score that depends on the weights. ``asked`` gets an entry for each evaluation."""

    def __init__(self, asked=None):
        super().__init__()
        self.asked = [] if asked is None else asked

    def process(self, _, outputs):
        self.results += outputs

    def compute_metrics(self, results):
        self.asked.append(1)
        return {'acc': sum(results)}


class BackboneModel(BaseModel):
    """A backbone whose loss is the mean square of its last map."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.backbone(inputs)[-1]
        return dict(loss=out.square().mean()) if mode == 'loss' else [*out]


class SelectBrightest(nn.Module):
    """Replaces a selector: selects the k channels with the largest mean."""

    def __init__(self, k):
        super().__init__()
        self.k = k
        self.forwards = 0

    def forward(self, x):
        self.forwards += 1
        top, index = x.mean((2, 3)).topk(self.k)
        return index, top.sigmoid()


def brightest_block(with_cp=False):
    block = MoDBlock(CHANNELS, basic_block, c=CHANNELS // SELECTED, r=1, with_cp=with_cp)
    block.selector = SelectBrightest(block.k)
    return block


class TwoBlocks(BaseModel):
    """Two MoD blocks that get the images directly, so the batch decides what is selected."""

    def __init__(self, with_cp=False):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {'one': brightest_block(with_cp), 'two': brightest_block(with_cp)}
        )

    def forward(self, inputs, data_samples=None, mode='tensor'):
        inputs = inputs.requires_grad_()  # or gradient checkpointing does nothing
        sums = [block(inputs).sum() for block in self.backbone.values()]
        return dict(loss=sum(sums)) if mode == 'loss' else [0]


def bright_batches(*bright):
    """One batch of one image for each pair of bright channels."""
    images = [torch.zeros(CHANNELS, 4, 4) for _ in bright]
    for image, channels in zip(images, bright, strict=True):
        image[list(channels)] = torch.rand(SELECTED, 4, 4) + 1
    return DataLoader([dict(inputs=image) for image in images], batch_size=1)


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
        workers (int): Number of persistent loading processes.
        ema (bool): With EMAHook.
        amp (bool): In bfloat16.
        resume (str): A checkpoint to resume from.
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
        loader = DataLoader(Data(), batch_size=3, **more['loader'])
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
        experiment_name=str(uuid.uuid4()),  # mmengine caches objects by this name
        resume=resume is not None,
        load_from=resume,
        log_level='ERROR',
    )


class StopAt(Hook):
    """Ends a training as a crash does, after the checkpoint of an iteration."""

    priority = 'LOWEST'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, *_, **__):
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


def last(work_dir):
    return Path((work_dir / 'last_checkpoint').read_text())


def result(work_dir):
    content = read_checkpoint(last(work_dir))
    return {key: content[key] for key in RESULT if key in content}


def resumed(work_dir, **options):
    return make_runner(work_dir, resume=str(last(work_dir)), **options)


def interrupted(work_dir, iteration, **options):
    hooks = [StopAt(iteration), *options.pop('hooks', [])]
    with pytest.raises(KeyboardInterrupt):
        make_runner(work_dir, hooks=hooks, **options).train()


def warnings_of(runner):
    lines = []
    runner.logger.warning = lines.append
    return lines
