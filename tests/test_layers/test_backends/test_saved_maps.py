"""Training in place: the gradients are the definition's, whoever else wants the maps."""

import gc
from functools import partial

import pytest
import torch
from torch import nn
from torch.autograd.graph import disable_saved_tensors_hooks, save_on_cpu
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mmcnnmod.layers import use_backend
from mmcnnmod.layers.backends import saved_maps, training_block

from .test_mod_stage import make

pytestmark = pytest.mark.skipif(
    not hasattr(torch._C._autograd, '_top_saved_tensors_default_hooks'),
    reason='this torch does not tell who watches saved tensors',
)


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.rand(2, 32, 5, 4, dtype=torch.double)


@pytest.fixture
def overwritten(monkeypatch):
    """For every MoD block in turn whether it was told to write into its input."""
    told, original = [], training_block.forward

    def forward(block, x, overwrite=False):
        told.append(overwrite)
        return original(block, x, overwrite)

    monkeypatch.setattr(training_block, 'forward', forward)
    return told


def make_double(pattern='SMSM', training=True, **options):
    stage = make(pattern, **options).double().train(training)
    for module in stage.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return stage


def gradients(stage, x, run=None, backward=1):
    x = x.clone().requires_grad_()
    out = stage(x) if run is None else run(stage, x)
    loss = out.square().sum()
    for i in range(backward):
        loss.backward(retain_graph=i < backward - 1)
    return [out.detach(), x.grad, *(parameter.grad for parameter in stage.parameters())]


def check(make_stage, x, **kwargs):
    with use_backend('reference'):
        expected = gradients(make_stage(), x, **kwargs)
    for one, same in zip(gradients(make_stage(), x, **kwargs), expected, strict=True):
        assert (one is None) == (same is None)
        if one is not None:
            torch.testing.assert_close(one, same)


@pytest.mark.parametrize('pattern', ['SM', 'SMS', 'SMSMS', 'SMMS', 'MSM', 'SIM'])
@pytest.mark.parametrize('position', ['first', 'last', 'original'])
@pytest.mark.parametrize('training', [True, False])
def test_gradients_are_the_definitions(pattern, position, training, x, overwritten):
    check(partial(make_double, pattern, training, position=position), x)
    assert any(overwritten) is (position != 'original' and pattern != 'SIM')


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('shape', [(1, 32, 1, 1), (3, 32, 1, 7)])
def test_layouts_and_shapes(layout, shape, overwritten):
    x = torch.rand(shape, dtype=torch.double).to(memory_format=layout)
    check(lambda: make_double(training=False).to(memory_format=layout), x)
    assert all(overwritten)


def test_backward_twice(x, overwritten):
    check(make_double, x, backward=2)
    assert all(overwritten)


def test_second_derivatives(x, overwritten):
    def run(stage, x):
        (grad,) = torch.autograd.grad(stage(x).square().sum(), x, create_graph=True)
        return grad

    check(make_double, x, run=run)
    assert all(overwritten)


def test_part_of_the_graph_first(x):
    """The block before is asked for its gradient while the fused map is still to be read."""

    def run(stage, x):
        parts = []
        stage[0].register_forward_hook(lambda *args: parts.append(args[-1].square().sum()))
        out = stage(x)
        torch.autograd.grad(parts[0], x, retain_graph=True)
        (grad,) = torch.autograd.grad(parts[0], x, retain_graph=True)
        return out * grad

    check(make_double, x, run=run)


@pytest.mark.parametrize('name', ['0', '0.relu', '1', '2', '2.relu', '3'])
@pytest.mark.parametrize('keep', [lambda y: y, lambda y: y.detach(), lambda y: y.square()])
def test_what_a_hook_keeps_stays_and_learns(name, keep, x):
    """Distillation compares maps of blocks; they are read after the backward pass, too."""
    expected = with_kept(name, keep, x, 'reference')
    for one, same in zip(with_kept(name, keep, x, 'auto'), expected, strict=True):
        torch.testing.assert_close(one, same)


def with_kept(name, keep, x, way):
    kept, stage = [], make_double()
    stage.get_submodule(name).register_forward_hook(lambda *args: kept.append(keep(args[-1])))

    def run(stage, x):
        return stage(x) * (1 + sum(one.mean() for one in kept))

    with use_backend(way):
        grads = gradients(stage, x, run=run)
    return [*grads, *(one.detach() for one in kept)]


@pytest.mark.parametrize('reentrant', [True, False])
@pytest.mark.parametrize('parts', ['stage', 'blocks'])
def test_checkpointing(reentrant, parts, x):
    def run(stage, x):
        for part in [stage] if parts == 'stage' else stage:
            x = checkpoint(part, x, use_reentrant=reentrant)
        return x

    check(make_double, x, run=run)


@pytest.mark.parametrize(
    'context', [save_on_cpu, partial(disable_saved_tensors_hooks, 'not now')], ids=['cpu', 'none']
)
def test_nothing_is_watched_where_others_watch(context, x, overwritten):
    def run(stage, x):
        with context():
            return stage(x)

    check(make_double, x, run=run)
    assert overwritten
    assert not any(overwritten)


def test_blocks_with_checkpoints_of_their_own(x):
    check(partial(make_double, with_cp=True), x)


@pytest.mark.parametrize('frozen', [0, 1, 2])
def test_frozen_blocks(frozen, x):
    def make_stage():
        stage = make_double()
        stage[: frozen + 1].requires_grad_(False)
        return stage

    check(make_stage, x)


def test_autocast(x):
    def run(stage, x):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            return stage(x)

    stage = partial(make, 'SMS')
    with use_backend('reference'):
        expected = gradients(stage(), x.float(), run=run)
    for one, same in zip(gradients(stage(), x.float(), run=run), expected, strict=True):
        assert (one - same).square().mean().sqrt() <= 0.02 * same.square().mean().sqrt() + 1e-6


def test_changing_the_result_in_place_is_refused_not_wrong(x):
    out = make_double('SM')(x.requires_grad_())
    out.mul_(2)
    with pytest.raises(RuntimeError, match='output of an MoD block was modified by an in-place'):
        out.sum().backward()


class Alive(TorchDispatchMode):
    """Counts the full maps that live beside one."""

    def __init__(self, x):
        super().__init__()
        self.x, self.seen = x, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() == self.x.numel():
            storage = out.untyped_storage()
            if storage._cdata != self.x.untyped_storage()._cdata:
                self.seen[storage._cdata] = StorageWeakRef(storage)
        return out

    def count(self):
        return sum(not reference.expired() for reference in self.seen.values())


@pytest.mark.parametrize('backward', [True, False])
def test_no_second_map_is_kept_and_nothing_leaks(backward, x):
    counts = {}
    gc.collect()
    gc.disable()
    try:
        for way in ('reference', 'auto'):
            stage, given = make_double('SMSMS'), x.clone().requires_grad_()
            with use_backend(way), Alive(given) as alive:
                out = stage(given)
                counts[way] = alive.count()
                if backward:
                    torch.autograd.grad(out.sum(), given)
                del out
            assert alive.count() == 0
    finally:
        gc.enable()
    assert counts['auto'] == counts['reference'] - 2


def test_catching_needs_to_know_who_else_does(monkeypatch):
    assert saved_maps.may_watch()
    monkeypatch.delattr(torch._C._autograd, '_top_saved_tensors_default_hooks')
    assert not saved_maps.may_watch()
    maps = saved_maps.SavedMaps()
    with maps.catch(True):
        assert maps.of(torch.ones(1)) is None


@pytest.mark.parametrize('change', ['weight', 'input'])
@pytest.mark.parametrize('way', ['reference', 'auto'])
def test_what_was_saved_and_then_changed_is_noticed(change, way, x):
    """torch leaves that check to those who take the saving over."""
    stage = make_double()
    start = x.clone().requires_grad_()
    given = start * 1
    with use_backend(way):
        out = stage(given)
    with torch.no_grad():
        (stage[2].conv.weight if change == 'weight' else given).mul_(2)
    with pytest.raises(RuntimeError, match=r'modified by an in-?place operation'):
        out.sum().backward()


@pytest.mark.parametrize('way', ['reference', 'auto'])
def test_a_map_that_was_changed_after_it_was_saved_is_noticed(way, x):
    """And not given back as if it had been saved like that."""
    stage = make_double()
    stage[0].register_forward_hook(lambda module, args, out: out.sub_(0.3))
    with use_backend(way):
        out = stage(x.clone().requires_grad_())
    with pytest.raises(RuntimeError, match=r'modified by an in-?place operation'):
        out.sum().backward()


def test_the_definition_leaves_saving_to_torch(x, monkeypatch):
    caught = []
    monkeypatch.setattr(saved_maps.SavedMaps, 'pack', lambda self, tensor: caught.append(tensor))
    with use_backend('reference'):
        make_double()(x.clone().requires_grad_())
    make_double(backend='reference')(x.clone().requires_grad_())
    assert not caught
