"""The switch between the definition and the fast ways, and what is said of those not taken."""

import logging
import runpy

import pytest
import torch
from mmengine.logging import MMLogger

from mmcnnmod.layers import (
    ChannelSelector,
    Fusion,
    MoDBlock,
    bottleneck,
    choose_backend,
    use_backend,
)
from mmcnnmod.layers.backends import eager_block, switch, training_block, triton_block


@pytest.fixture
def block():
    return MoDBlock(16, bottleneck, c=4, r=4).eval()


@pytest.fixture
def x():
    return torch.rand(2, 16, 3, 3)


@pytest.fixture
def lines(monkeypatch):
    """What is logged."""
    said = []
    monkeypatch.setattr(switch, 'print_log', lambda line, **kwargs: said.append(line))
    switch.said.clear()
    yield said
    switch.said.clear()


def test_auto_chooses_by_gradients(block, x):
    assert switch.fast_way(block, x) is training_block.forward
    with torch.no_grad():
        assert switch.fast_way(block, x) is eager_block.forward
    assert switch.fast_way(block.requires_grad_(False), x) is eager_block.forward
    assert switch.fast_way(block, x.requires_grad_()) is training_block.forward


@pytest.mark.parametrize(
    'options', [{'fusion': 'replace'}, {'last_activation': 'after'}, {'selection': 'random'}]
)
def test_experiments_train_by_the_definition(options, x):
    assert switch.fast_way(MoDBlock(16, bottleneck, c=4, r=4, **options), x) is None


def test_a_blocks_own_backend_comes_first(block, x):
    with use_backend('reference'):
        assert switch.fast_way(block, x) is None
        block.backend = 'eager'
        assert switch.fast_way(block, x) is not None
    block.backend = 'reference'
    assert switch.fast_way(block, x) is None


def test_switch_is_restored(block, x):
    with pytest.raises(RuntimeError), use_backend('reference'):
        raise RuntimeError
    assert switch.fast_way(block, x) is not None


def test_unknown_names(block):
    with pytest.raises(ValueError, match="unknown backend 'fast'; choose from auto, reference"):
        choose_backend('fast')
    with pytest.raises(ValueError, match="unknown backend 'fast'; choose from None, auto"):
        MoDBlock(16, bottleneck, c=4, r=4, backend='fast')


@pytest.mark.filterwarnings('ignore:.*found in sys.modules')
def test_environment_variable(monkeypatch):
    monkeypatch.setenv('MMCNNMOD_BACKEND', 'reference')
    assert runpy.run_module(switch.__name__)['chosen'] == 'reference'
    monkeypatch.setattr(switch, 'chosen', 'fast')
    with pytest.raises(ValueError, match="MMCNNMOD_BACKEND: unknown backend 'fast'; choose from"):
        MoDBlock(16, bottleneck, c=4, r=4)


def test_fallback_is_said_once_for_each_reason(block, x, lines, monkeypatch):
    reasons = iter(['no CUDA', 'no CUDA', 'k = 64'])
    monkeypatch.setattr(triton_block, 'why_not', lambda *args: next(reasons))
    monkeypatch.setattr(triton_block, 'forward', None)
    with use_backend('triton'), torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(block(x), block.define(x))
    assert [line.rsplit(': ')[-1] for line in lines] == ['no CUDA', 'k = 64']


def test_what_was_asked_for_is_taken_where_it_can(block, x, monkeypatch):
    monkeypatch.setattr(triton_block, 'why_not', lambda *args: None)
    monkeypatch.setattr(triton_block, 'forward', lambda block, x, overwrite: 2 * x)
    with use_backend('triton'):
        assert torch.equal(block(x), 2 * x)
    assert not torch.equal(block(x), 2 * x)


CHANGES = {
    'pool': lambda block: setattr(block.selector, 'pool', torch.nn.AdaptiveMaxPool2d(1)),
    'selector': lambda block: setattr(block.selector, 'forward', block.selector.forward),
    'fusion': lambda block: setattr(block.fusion, 'forward', block.fusion.forward),
    'define': lambda block: setattr(block, 'define', lambda x: 2 * x),
    '_forward': lambda block: setattr(block, '_forward', lambda x: 2 * x),
}


@pytest.mark.parametrize('gradients', [True, False])
@pytest.mark.parametrize('name', CHANGES)
def test_what_was_exchanged_in_a_block_counts(name, gradients, block, x):
    CHANGES[name](block)
    with torch.set_grad_enabled(gradients):
        assert switch.fast_way(block, x) is None
        if name in ('define', '_forward'):
            assert torch.equal(block(x), 2 * x)


def test_a_fast_way_asked_for_and_not_taken_is_said(block, x, lines):
    block.register_forward_hook(lambda *args: None)
    block(x)
    assert not lines
    with use_backend('eager'):
        block(x)
        block(x)
    (line,) = lines
    assert 'by their definition, not by eager: a hook' in line


def test_auto_on_a_cpu_says_nothing(block, x, lines):
    block(x)
    with torch.no_grad():
        block(x)
    assert not lines


def test_the_log_is_mmengines(caplog):
    switch.said.clear()
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        switch.log_once('a reason')
        switch.log_once('a reason')
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.message for record in caplog.records] == ['a reason']
    assert caplog.records[0].levelno == logging.INFO


@pytest.mark.parametrize(
    'name', ['', 'selector', 'selector.pool', 'drop_path', 'fusion', 'fusion.activation']
)
@pytest.mark.parametrize('gradients', [True, False])
def test_hooks_see_the_definition(name, gradients, block, x):
    expected, seen = block(x), []
    handle = block.get_submodule(name).register_forward_hook(lambda *args: seen.append(args))
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(block(x), expected)
        assert len(seen) == 1
        handle.remove()
        assert switch.fast_way(block, x) is not None


@pytest.mark.parametrize('name', ['selector', 'selector.pool', 'fusion'])
def test_backward_hooks_see_the_definition(name, block, x):
    seen = []
    block.get_submodule(name).register_full_backward_hook(lambda *args: seen.append(args))
    block(x.requires_grad_()).sum().backward()
    assert len(seen) == 1


class Reversed(ChannelSelector):
    def logits(self, x):
        return -super().logits(x)


class Doubled(Fusion):
    def forward(self, x, processed, index):
        return super().forward(x, 2 * processed, index)


@pytest.mark.parametrize('gradients', [False, True])
@pytest.mark.parametrize(
    ('name', 'part'), [('selector', Reversed(16, 4, 4)), ('fusion', Doubled(4))]
)
def test_parts_of_ones_own_are_not_passed_over(name, part, gradients, block, x):
    setattr(block, name, part)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(block(x), block.define(x))
    assert switch.fast_way(block, x) is None


def test_a_definition_of_ones_own_is_taken(x):
    class Own(MoDBlock):
        def define(self, x):
            return 2 * x

    torch.testing.assert_close(Own(16, bottleneck, c=4, r=4)(x), 2 * x)


def test_transforms_and_tracers_see_the_definition(block, x, monkeypatch):
    def refuse(*args):
        raise AssertionError

    expected = block(x)
    monkeypatch.setattr(eager_block, 'forward', refuse)
    monkeypatch.setattr(training_block, 'forward', refuse)
    with pytest.raises(AssertionError):
        block(x)
    torch.testing.assert_close(torch.vmap(block)(x[None])[0], expected)
    torch.testing.assert_close(torch.func.jvp(block, (x,), (x,))[0], expected)
    torch.testing.assert_close(torch.jit.trace(block, x, check_trace=False)(x), expected)


@pytest.mark.parametrize('n', [1, 2])
def test_selection_is_not_autocast(n):
    torch.manual_seed(0)
    selector, x = ChannelSelector(64, 16, r=4), torch.randn(n, 64, 3, 5)
    with torch.no_grad():
        index, scores = eager_block.select(selector, x)
        with torch.autocast('cpu', torch.bfloat16):
            same_index, same_scores = eager_block.select(selector, x)
    assert torch.equal(same_index, index)
    torch.testing.assert_close(same_scores, scores)  # bf16 has 3 digits
