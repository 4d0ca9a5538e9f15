"""Models, data and runners for trainings of milliseconds."""

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

from .mmengine_run import assert_same

CHANNELS, SELECTED = 8, 2
EACH_ITERATION = dict(by_epoch=False, interval=1)  # options of a checkpoint hook
# The parts of a checkpoint that must be the same after a resumed and an uninterrupted training.
RESULT = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'training_state')


class Net(BaseModel):
    """A model that draws random numbers in its forward pass."""

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
    """Data that draws random numbers when it is loaded, as augmentation does."""

    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([index, random.random(), np.random.rand()]) + torch.rand(3))


class Score(BaseMetric):
    """A score that depends on the weights. Each evaluation appends it to ``evaluations``."""

    def __init__(self, evaluations=None):
        super().__init__()
        self.evaluations = [] if evaluations is None else evaluations

    def process(self, _, outputs):
        self.results += outputs

    def compute_metrics(self, results):
        self.evaluations.append(sum(results))
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
    """Two MoD blocks that both get the images, so the images determine the selections."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({name: brightest_block() for name in ('one', 'two')})

    def forward(self, inputs, data_samples=None, mode='tensor'):
        sums = [block(inputs).sum() for block in self.backbone.values()]
        return dict(loss=sum(sums)) if mode == 'loss' else [0]


def bright_batches(*bright):
    """A batch of one image for each pair of bright channels."""
    images = [torch.zeros(CHANNELS, 4, 4) for _ in bright]
    for image, channels in zip(images, bright, strict=True):
        image[list(channels)] = torch.rand(SELECTED, 4, 4) + 1
    return DataLoader([dict(inputs=image) for image in images], batch_size=1)


@OPTIM_WRAPPERS.register_module(force=True)
class BFloat16OnCPU(OptimWrapper):
    """mmengine's AmpOptimWrapper needs a GPU."""

    def optim_context(self, model):
        return torch.autocast('cpu', torch.bfloat16)


def make_runner(
    work_dir, by_epoch=True, workers=0, ema=False, amp=False, val=True, seed=0, resume=None,
    hooks=(), checkpoint=None, wrapper=None, evaluations=None, torch_loader=None, **loader,
):  # fmt: skip
    """A runner for three epochs of four batches, or for ten iterations on such epochs.

    ``checkpoint`` and ``wrapper`` are arguments of the checkpoint hook and the optimizer wrapper,
    ``evaluations`` of :class:`Score`, and ``loader`` of the training loader. With ``torch_loader``,
    torch's own loader is used with these arguments. ``resume`` is a checkpoint.
    """
    settings = dict(
        batch_size=loader.get('batch_size', 3),
        drop_last=loader.get('drop_last', False),
        num_workers=workers,
        persistent_workers=workers > 0,
        dataset=Data(),
        collate_fn=dict(type='default_collate'),
    )
    train_loader = dict(
        settings, sampler=dict(type=loader.get('sampler', 'DefaultSampler'), shuffle=True)
    )
    val_loader = dict(settings, sampler=dict(type='DefaultSampler', shuffle=False))
    if torch_loader:
        train_loader = DataLoader(Data(), batch_size=3, **torch_loader)
    schedulers = [
        dict(type='CosineAnnealingLR', T_max=12, by_epoch=False),
        dict(type='ReduceOnPlateauLR', monitor='acc', rule='less', patience=0),
    ]
    torch.manual_seed(0)
    return Runner(
        model=Net(),
        work_dir=str(work_dir),
        train_dataloader=train_loader,
        val_dataloader=val_loader if val else None,
        val_evaluator=[Score(evaluations)] if val else None,
        train_cfg=dict(by_epoch=True, max_epochs=3)
        if by_epoch
        else dict(by_epoch=False, max_iters=10, val_interval=4),
        val_cfg=dict() if val else None,
        optim_wrapper=dict(
            type='BFloat16OnCPU' if amp else 'OptimWrapper',
            optimizer=dict(type='AdamW', lr=0.01),
            **(wrapper or {}),
        ),
        param_scheduler=schedulers if val else schedulers[:1],
        default_hooks=dict(
            checkpoint={
                **dict(type='SafeCheckpointHook', interval=1, by_epoch=by_epoch),
                **(checkpoint or {}),
            }
        ),
        custom_hooks=[*([dict(type='EMAHook')] if ema else []), *hooks],
        randomness=dict(seed=seed),
        experiment_name=str(uuid.uuid4()),  # mmengine caches objects by this name
        resume=resume is not None,
        load_from=resume and str(resume),
        log_level='ERROR',
    )


class InterruptAt(Hook):
    """Interrupts a training after an iteration and its checkpoint, as a crash does."""

    priority = 'LOWEST'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, *_, **__):
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


class InterruptValidation(Hook):
    """Interrupts a training before its first validation."""

    def before_val(self, runner):
        raise KeyboardInterrupt


def train_and_interrupt(work_dir, hook, **options):
    """Train until a hook, or :class:`InterruptAt` an iteration, interrupts the training."""
    hook = InterruptAt(hook) if isinstance(hook, int) else hook
    with pytest.raises(KeyboardInterrupt):
        make_runner(work_dir, **{**options, 'hooks': [hook, *options.get('hooks', ())]}).train()


def last_checkpoint(work_dir):
    return Path((work_dir / 'last_checkpoint').read_text())


def make_resumed_runner(work_dir, **options):
    return make_runner(work_dir, resume=last_checkpoint(work_dir), **options)


def assert_same_result(work_dir, other):
    """Assert that the last checkpoints of two trainings have bitwise the same content."""
    contents = [read_checkpoint(last_checkpoint(folder)) for folder in (work_dir, other)]
    assert_same(*[{key: content.get(key) for key in RESULT} for content in contents])


def collect_warnings(runner):
    """The list to which the runner's logger adds its warnings from now on."""
    lines = []
    runner.logger.warning = lines.append
    return lines
