"""Stages that write into their own maps: the same results, and nobody else's tensor changes."""

import copy
import io
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmcnnmod.layers import MoDBlock, become_mod_stage, bottleneck, use_backend
from mmcnnmod.layers.backends import eager_block, holders


class Standard(nn.Module):
    """A standard block: what it gives is a new tensor, made in place by its last layer."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv(x) + x)


def make(pattern='SMSM', width=32, **options):
    """A stage of standard (S), MoD (M) and identity (I) blocks, in eval mode."""
    torch.manual_seed(0)
    kinds = {
        'S': partial(Standard, width),
        'M': lambda: MoDBlock(width, bottleneck, **{'c': 4, 'r': 4, **options}),
        'I': nn.Identity,
    }
    stage = nn.Sequential(*(kinds[kind]() for kind in pattern)).eval()
    become_mod_stage(stage)
    return stage


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.rand(2, 32, 5, 4)


@pytest.fixture
def overwritten(monkeypatch):
    """The blocks that wrote into their input."""
    blocks, original = [], eager_block.forward

    def forward(block, x, overwrite):
        if overwrite:
            blocks.append(block)
        return original(block, x, overwrite)

    monkeypatch.setattr(eager_block, 'forward', forward)
    return blocks


def reference(stage, x):
    with torch.no_grad(), use_backend('reference'):
        return stage(x)


@pytest.mark.parametrize('position', ['first', 'last', 'original'])
@pytest.mark.parametrize('fusion', ['add', 'replace'])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('shape', [(2, 5, 4), (1, 1, 1), (3, 1, 7), (0, 3, 3)])
def test_results_are_the_references(position, fusion, layout, shape, overwritten):
    n, *size = shape
    stage = make('SMMS', position=position, fusion=fusion).to(memory_format=layout)
    x = torch.rand(n, 32, *size).to(memory_format=layout)
    kept = x.clone()
    expected = reference(stage, x)
    assert not overwritten
    with torch.no_grad():
        out = stage(x)
    assert len(overwritten) == 2
    torch.testing.assert_close(out, expected)
    assert torch.equal(x, kept)


@pytest.mark.parametrize('c', [4, 32])  # c = 32: k = 1
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_other_dtypes_and_widths(dtype, c, x):
    # One MoD block: a rounding that differs may change what a second one selects.
    stage, x = make('SM', c=c).to(dtype), x.to(dtype)
    with torch.no_grad():
        out = stage(x)
    assert out.dtype == dtype
    rounding = {torch.float64: 1e-7, torch.bfloat16: 0.02}[dtype]
    torch.testing.assert_close(out, reference(stage, x), rtol=rounding, atol=rounding)


def test_random_selection_and_autocast(x, overwritten):
    stage = make(selection='random')
    torch.manual_seed(3)
    expected = reference(stage, x)
    torch.manual_seed(3)
    with torch.no_grad():
        torch.testing.assert_close(stage(x), expected)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            out = make()(x)
            with use_backend('reference'):
                torch.testing.assert_close(out, make()(x), rtol=0.02, atol=0.02)
    assert len(overwritten) == 4


def test_ties_select_the_same_channels(x):
    stage = make()
    for module in stage.modules():
        if hasattr(module, 'fc2'):
            nn.init.zeros_(module.fc2.weight)  # all scores are 0.5
    with torch.no_grad():
        assert torch.equal(stage(x), reference(stage, x))


KEEPERS = {
    'the tensor': lambda output: output,
    'without gradient': lambda output: output.detach(),
    'a part': lambda output: output[:, :3],
    'data': lambda output: output.data,
    'an array': lambda output: output.numpy(),
    'its memory': lambda output: output.untyped_storage(),
    'a capsule': torch.utils.dlpack.to_dlpack,
}


@pytest.mark.parametrize('keep', KEEPERS.values(), ids=KEEPERS.keys())
@pytest.mark.parametrize(
    'module', ['0', '0.relu', '1', '1.selector', '1.selector.pool', '1.fusion']
)
@torch.no_grad()
def test_what_a_hook_kept_stays(module, keep, x):
    """A hook sees what a module gives, and what it was given."""
    stage, kept, copies = make('SM'), [], []
    before = stage[0](x)

    def hook(module, inputs, output=None):
        for value in (*inputs, output):
            if isinstance(value, torch.Tensor) and value.shape == before.shape:
                kept.append(keep(value))
                copies.append(value.clone())

    stage.get_submodule(module).register_forward_hook(hook)
    out = stage(x)
    torch.testing.assert_close(out, reference(make('SM'), x))
    assert copies
    for one, same in zip(kept, copies, strict=True):
        if isinstance(one, torch.UntypedStorage):
            one = torch.empty(0).set_(one).view(same.shape)
        elif not isinstance(one, torch.Tensor):
            one = torch.from_dlpack(one) if not hasattr(one, 'dtype') else torch.from_numpy(one)
        assert torch.equal(one, same[:, : one.shape[1]])


@torch.no_grad()
def test_inputs_seen_by_global_and_pre_hooks_stay(x):
    stage, kept = make('SM'), []
    stage[1].register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    stage(x)
    assert torch.equal(kept[0], stage[0](x))
    kept.clear()
    handle = nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: kept.append(inputs[0]) if isinstance(module, MoDBlock) else None
    )
    try:
        make('SM')(x)
    finally:
        handle.remove()
    assert torch.equal(kept[0], stage[0](x))


@pytest.mark.parametrize('pattern', ['MS', 'IMS', 'IIMM'])
@torch.no_grad()
def test_the_stages_input_stays(pattern, x):
    """Also where only blocks that do nothing stand before the MoD block."""
    kept = x.clone()
    stage = make(pattern)
    torch.testing.assert_close(stage(x), reference(stage, x))
    assert torch.equal(x, kept)
    alias = x.view(2, 32, 20).view(2, 32, 5, 4)
    stage(alias)
    assert torch.equal(x, kept)


@torch.no_grad()
def test_a_block_that_keeps_its_output_keeps_it(x):
    class Remembers(Standard):
        def forward(self, x):
            self.last = super().forward(x)
            return self.last

    stage = make('SM')
    stage[0].__class__ = Remembers
    stage(x)
    assert torch.equal(stage[0].last, Standard.forward(stage[0], x))


@pytest.mark.parametrize('reentrant', [True, False])
@pytest.mark.parametrize('parts', ['stage', 'blocks'])
def test_checkpointing_gives_the_references_gradients(reentrant, parts, x):
    """Reentrant checkpointing runs the forward pass without gradients, and then once more."""
    results = []
    for checkpointed in (False, True):
        stage = make('SMSM')
        given = x.clone().requires_grad_()
        y = given
        for part in [stage] if parts == 'stage' else stage:
            # The second input wants a gradient, the map that is kept for later need not.
            run = lambda y, one, part=part: part(y) * one  # noqa: E731
            one = torch.ones((), requires_grad=True)
            y = checkpoint(run, y, one, use_reentrant=reentrant) if checkpointed else run(y, one)
        (y**2).sum().backward()
        results.append([given.grad, *(parameter.grad for parameter in stage.parameters())])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_reentrant_checkpoint_of_a_map_without_gradient(x):
    stage, kept = make('MSM'), x.clone()
    one = torch.ones((), requires_grad=True)
    checkpoint(lambda y, one: stage(y) * one, x, one, use_reentrant=True).sum().backward()
    assert torch.equal(x, kept)


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_copies_and_pickles_are_stages_of_their_own(mode, x, overwritten):
    stage = make()
    buffer = io.BytesIO()
    torch.save(stage, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    with mode():
        expected = stage(x)
        for other in (copy.deepcopy(stage), loaded):
            overwritten.clear()
            assert torch.equal(other(x), expected)
            assert len(overwritten) == 2
            assert {id(block) for block in overwritten} <= {id(block) for block in other}


def test_compiles_without_gradients(x):
    torch._dynamo.reset()
    stage = make()
    compiled = torch.compile(stage, fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), reference(stage, x))


def test_vmap(x):
    stage = make()
    with torch.no_grad():
        out = torch.vmap(stage)(x[None])[0]
    torch.testing.assert_close(out, reference(stage, x))


def test_containers_that_do_more_stay_what_they_are():
    class Own(nn.Sequential):
        def forward(self, x):
            return x

    container = Own()
    become_mod_stage(container)
    assert type(container) is Own


@pytest.mark.parametrize('compiled_before', [False, True])
def test_one_local_variable_is_nobody_else(compiled_before):
    if compiled_before:
        with pytest.raises(Exception, match='call'):
            torch.compile(lambda x: print(x), fullgraph=True, backend='eager')(torch.ones(1))

    def lonely():
        x = torch.rand(3) * 2
        return holders.holders(x)

    def accompanied(keep):
        x = torch.rand(3) * 2
        other = keep(x)
        return holders.holders(x), other

    assert lonely() == holders.nobody_else()
    for keep in KEEPERS.values():
        if keep is not KEEPERS['a part']:
            assert accompanied(keep)[0] != holders.nobody_else()


@pytest.mark.parametrize('gradients', [False, True])
@pytest.mark.parametrize(
    'wrap',
    [
        lambda forward: partial(checkpoint, forward, use_reentrant=False),
        lambda forward: partial(checkpoint, forward, use_reentrant=True),
        lambda forward: lambda x: forward(x),
    ],
    ids=['checkpoint', 'reentrant checkpoint', 'any'],
)
def test_a_block_whose_forward_was_exchanged_only_gets_the_map(wrap, gradients, x, monkeypatch):
    """As tools for gradient checkpointing do."""
    stage, given = make(), []
    for name in ('_forward', 'define'):  # whatever computes it in the end
        monkeypatch.setattr(MoDBlock, name, keep_input(getattr(MoDBlock, name), given))
    with use_backend('reference'):
        expected = stage(x)
    given.clear()
    for block in stage:
        block.forward = wrap(block.forward)
    with torch.set_grad_enabled(gradients):
        out = stage(x.requires_grad_(gradients))
    torch.testing.assert_close(out.detach(), expected.detach())
    assert given
    assert all(torch.equal(map_, copy) for map_, copy in given)
    if gradients:
        out.sum().backward()


def keep_input(method, given):
    """The method, but the maps that it gets are kept, beside copies."""

    def keeping(self, x):
        given.append((x, x.detach().clone()))
        return method(self, x)

    return keeping


def test_a_torch_that_does_not_count_gets_copies(x, monkeypatch, overwritten):
    monkeypatch.setattr(holders, 'count_aliases', None)
    assert holders.holders(x) == ()
    with torch.no_grad():
        make()(x)
    assert not overwritten
