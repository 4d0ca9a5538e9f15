"""The hook that logs how many channels the selectors use."""

import json
import math
import textwrap

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmcnnmod.analysis import mod_blocks
from mmcnnmod.engine import ChannelUsageHook
from mmcnnmod.engine.channel_usage_hook import SelectionCounter
from mmcnnmod.errors import UserError
from mmcnnmod.toolboxes import MINIMUM_VERSIONS

from ..utils.training import CHANNELS as C
from ..utils.training import TwoBlocks, bright_batches, brightest_block

COMPILED = dict(compile=dict(backend='aot_eager'))  # a backend that only traces

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(autouse=True)
def restore_scope(monkeypatch):
    """A runner sets the default scope of the process, which must not affect other tests."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())


def train(work_dir, loader, iters, hook=None, model=None, **options):
    """Train; returns the lines of scalars.json that the hook has logged."""
    runner = Runner(
        model=model or TwoBlocks(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=False, max_iters=iters, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
        custom_hooks=[dict(type='ChannelUsageHook', **(hook or {}))],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        experiment_name=str(work_dir),
        **options,
    )
    runner.train()
    path = next((work_dir / runner.timestamp).glob('vis_data/scalars.json'))
    scalars = [json.loads(line) for line in path.read_text().splitlines()]
    return [entry for entry in scalars if any('channel_usage' in key for key in entry)]


def shares(scalars):
    """The logged shares of block 'one', by step."""
    return {entry['step']: entry['channel_usage/one/share'] for entry in scalars}


@pytest.mark.parametrize('scope', [None, *MINIMUM_VERSIONS])
def test_share_and_entropy_are_logged_in_any_toolbox(tmp_path, scope):
    if scope:
        pytest.importorskip(scope)
    scalars = train(
        tmp_path, bright_batches((0, 1), (0, 2)), 2, dict(interval=2), default_scope=scope
    )
    assert len(scalars) == 1
    assert scalars[0].pop('step') == 2
    # Of 4 selections, 2 are channel 0, and 1 each are the channels 1 and 2: 1.5 bit.
    expected = {'share': 3 / C, 'entropy': pytest.approx(1.5 * math.log(2) / math.log(C))}
    assert scalars[0] == {
        f'channel_usage/{block}/{name}': value
        for block in ('one', 'two')
        for name, value in expected.items()
    }


# Step 5 is the end of the training.
@pytest.mark.parametrize(
    ('hook', 'cfg', 'expected'),
    [
        (dict(interval=2), {}, {2: 4 / C, 4: 2 / C, 5: 2 / C}),
        (dict(interval=4, record_interval=2), {}, {4: 4 / C}),
        (dict(interval=2, record_interval=2), COMPILED, {2: 2 / C, 4: 2 / C}),
    ],
)
def test_log_covers_recorded_iterations_since_the_last_log(tmp_path, hook, cfg, expected):
    loader = bright_batches((0, 1), (2, 3), (4, 5), (4, 5), (6, 7))
    assert shares(train(tmp_path, loader, 5, hook, cfg=cfg)) == expected


def test_validation_is_not_counted(tmp_path):
    validation = dict(
        val_dataloader=bright_batches((4, 5), (6, 7)),
        val_cfg=dict(),
        val_evaluator=dict(type='DumpResults', out_file_path=str(tmp_path / 'results.pkl')),
    )
    model = TwoBlocks()
    scalars = train(
        tmp_path, bright_batches((0, 1), (0, 1)), 2, dict(interval=2), model, **validation
    )
    assert shares(scalars) == {2: 2 / C}
    assert model.backbone['one'].selector.forwards == 2 + 2 * 2


def test_resumed_training_starts_with_new_counts(tmp_path):
    loader = bright_batches((0, 1), (2, 3), (4, 5), (6, 7))
    assert shares(train(tmp_path / 'first', loader, 2, dict(interval=3))) == {2: 4 / C}
    resumed = train(
        tmp_path / 'second', bright_batches((0, 1), (0, 1)), 4, dict(interval=3),
        resume=True, load_from=str(tmp_path / 'first' / 'iter_2.pth'),
    )  # fmt: skip
    assert shares(resumed) == {3: 2 / C, 4: 2 / C}


def test_counters_are_removed_after_training(tmp_path):
    model = TwoBlocks()
    train(tmp_path, bright_batches((0, 1)), 1, model=model)
    assert not any(block.selector._forward_hooks for block in mod_blocks(model).values())


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('outer_checkpoint', [False, True])
def test_second_forward_of_gradient_checkpointing_is_not_counted(with_cp, outer_checkpoint):
    block = brightest_block(with_cp)
    counter = SelectionCounter(block, torch.device('cpu'))
    images = next(iter(bright_batches((3, 6))))['inputs'].requires_grad_()
    for listening in (True, False):
        counter.listening = listening
        with torch.autocast('cpu', torch.bfloat16):
            if outer_checkpoint:
                out = checkpoint(block, images, use_reentrant=False)
            else:
                out = block(images)
        out.sum().backward()
        assert counter.counts.tolist() == [0, 0, 0, 1, 0, 0, 1, 0]
    assert block.selector.forwards == (4 if outer_checkpoint else 2)


RANK_PROGRAM = """
    import sys
    import torch
    from types import SimpleNamespace
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import OptimWrapper
    from mmcnnmod.engine import ChannelUsageHook
    from tests.utils.training import TwoBlocks, bright_batches

    rank = int(sys.argv[2])
    torch.distributed.init_process_group('gloo', 'file://' + sys.argv[1], rank=rank, world_size=2)
    model = MMDistributedDataParallel(TwoBlocks(), device_ids=None)
    visualizer = SimpleNamespace(add_scalars=lambda scalars, step: print(step, scalars))
    runner = SimpleNamespace(model=model, visualizer=visualizer, iter=0)
    hook = ChannelUsageHook(interval=1)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    model.train_step(next(iter(bright_batches([(0, 1), (0, 5)][rank]))), optimizer)
    hook.after_train_iter(runner, 0)
    torch.distributed.barrier()
"""

LAUNCHER = """if True:
    import subprocess, sys
    command = [sys.executable, *{arguments}]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    sys.exit(any([process.wait() for process in processes]))
"""


def test_counts_are_summed_over_processes(run_python, tmp_path):
    arguments = ['-c', textwrap.dedent(RANK_PROGRAM), str(tmp_path / 'init')]
    result = run_python('-c', LAUNCHER.format(arguments=arguments))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(f"1 {{'channel_usage/one/share': {3 / C}, ") == 2


def test_network_without_mod_blocks_raises_an_error(tmp_path):
    model = TwoBlocks()
    model.backbone = nn.ModuleDict({'one': nn.Conv2d(C, C, 1)})
    with pytest.raises(UserError, match='no MoD block; remove the hook'):
        train(tmp_path, bright_batches((0, 1)), 1, model=model)


@pytest.mark.parametrize('options', [dict(interval=0), dict(record_interval=1.5)])
def test_invalid_interval_raises_an_error(options):
    with pytest.raises(UserError, match=f'{next(iter(options))} must be a positive integer'):
        ChannelUsageHook(**options)
