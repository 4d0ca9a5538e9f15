"""Fixtures that run tools/experiments/run.py with fake training and testing programs."""

import json
import logging
import signal
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from ...utils.experiments import log, save_checkpoint
from ...utils.tasks import ROOT

sys.path.insert(0, str(ROOT / 'tools' / 'experiments'))

# The parts of a config that are needed before training. CIFAR10 could download its data.
CONFIG = """
default_scope = 'mmpretrain'
data_root = 'data/cifar10/'
model = dict(type='ImageClassifier', backbone=dict(type='ResNetMoD_CIFAR', depth=18))
train_dataloader = dict(dataset=dict(type='CIFAR10', data_root=data_root), num_workers=0)
val_dataloader = train_dataloader
test_dataloader = train_dataloader
test_evaluator = dict(type='Accuracy', topk=(1,))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
default_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best='auto'))
"""
PLAN = """
title: Two arms
config: config.py
metric: accuracy/top1
seeds: [0, 1]
overrides: {train_cfg.max_epochs: 2}
arms:
  dense: {overrides: {model.backbone.depth: 34}}
  MoD:
    baseline: dense
    needs: dense
    weight: 2
    overrides: {model.backbone.init_cfg: {type: Pretrained, checkpoint: '{checkpoint}'}}
"""


class FakePrograms:
    """Replaces tools/train.py and tools/test.py. Each program takes a minute.

    A training has the score 40 after the first epoch and 50 + seed after the second.
    """

    test_scores = (90.0, 92.0, 97.0, 93.0, 93.0)  # by seed

    def __init__(self):
        self.before = {}  # by run: a function that is called once before the program runs
        self.now = 0.0
        self.loss = 1.0
        self.clear()

    def clear(self):
        self.runs = []  # the folder of a training, or (folder, 'test')
        self.arguments = []
        self.gpus = []

    def resumed_from(self):
        """The checkpoint from which the first training resumed."""
        return self.arguments[0][self.arguments[0].index('--resume') + 1]

    def __call__(self, name, gpus, config, *arguments, show, seconds, keep_open):
        arguments = [str(argument) for argument in arguments]
        folder = Path(arguments[arguments.index('--work-dir') + 1])
        run = folder.name if name == 'train' else (folder.parent.name, 'test')
        self.runs.append(run)
        self.arguments.append(arguments)
        self.gpus.append(gpus)
        self.now += 60
        if run in self.before:
            self.before.pop(run)(folder)
        seed = Config.fromfile(config).randomness.seed
        if name == 'test':
            folder.mkdir(exist_ok=True)
            out = Path(arguments[arguments.index('--out') + 1])
            out.write_text(json.dumps({'accuracy/top1': self.test_scores[seed], 'epochs': 'all'}))
            return
        show('Epoch(train) [1][1/2]  eta: 0:00:09  time: 1\n')
        log(folder, {'loss': self.loss, 'time': 4, 'data_time': 1})
        log(folder, {'accuracy/top1': 40, 'step': 1}, {'accuracy/top1': 50 + seed, 'step': 2})
        (folder / 'runtime_stats.json').write_text('{"train_seconds": 1.0, "peak_memory_mb": 2}')
        for epoch in (1, 2):
            save_checkpoint(folder / f'epoch_{epoch}.pth', f'best_{epoch}.pth')


@pytest.fixture
def programs(monkeypatch, tmp_path):
    pytest.importorskip('mmpretrain')
    import run
    import training

    fake = FakePrograms()
    monkeypatch.setattr(training, 'run_program', fake)
    # Not time.monotonic itself, because a data loader of another test may wait for its workers.
    for module in (run, training):
        monkeypatch.setattr(module, 'monotonic', lambda: fake.now)
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'config.py').write_text(CONFIG)
    (tmp_path / 'plan.yml').write_text(PLAN)
    handler = signal.getsignal(signal.SIGTERM)
    yield fake
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(programs, capsys):
    """Run the program with a plan; returns its exit code, output and errors."""
    from run import main

    def run(*options, plan='plan.yml'):
        code = 0
        try:
            main([plan, '--work-dir', 'out', *map(str, options)])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run
