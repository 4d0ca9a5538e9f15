"""A ResNet-MoD starts from dense weights: which block gets which, and how the new ones start."""

import importlib
import logging

import pytest
import torch
import torchvision
from mmengine.registry import DefaultScope
from torch import nn

from mmcnnmod.checkpoints import MAPPINGS, DensePretrained, start_from_dense
from mmcnnmod.errors import UserError
from mmcnnmod.layers import MoDBlock

from ..utils.dense_networks import (
    SMALL,
    WholeModel,
    assert_equal,
    copied,
    init_cfg,
    outputs,
    randomized,
    without_mod_blocks,
)

# For each standard block of each stage the dense block that it starts from.
BLOCKS = {
    # MoD depth, dense depth, mapping
    (18, 18, 'first'): [[0], [0], [0], [0]],
    (34, 34, 'first'): [[0, 1], [0, 1], [0, 1, 2], [0, 1]],
    (50, 50, 'spread'): [[0, 2], [0, 3], [0, 2, 5], [0, 2]],
    (50, 50, 'first'): [[0, 1], [0, 1], [0, 1, 2], [0, 1]],
    (50, 50, 'same'): [[0, 2], [0, 2], [0, 2, 4], [0, 2]],
    (50, 101, 'spread'): [[0, 2], [0, 3], [0, 11, 22], [0, 2]],
    (75, 50, 'spread'): [[0, 2], [0, 3], [0, 1, 2, 2, 3, 4, 5], [0, 2]],
    (75, 50, 'first'): [[0, 1], [0, 1], [0, 1, 2, 3, 4, 5, 5], [0, 1]],
    (75, 50, 'same'): [[0, 2], [0, 2], [0, 2, 4, 5, 5, 5, 5], [0, 2]],
}


def started(cls, start, **kwargs):
    torch.manual_seed(0)
    network = cls(**{**SMALL, **kwargs}, init_cfg=start)
    network.init_weights()
    return network


@pytest.mark.parametrize(('depths', 'blocks'), BLOCKS.items())
def test_without_its_mod_blocks_it_computes_what_those_dense_blocks_do(depths, blocks, tmp_path):
    """A block that starts from the same dense block as an earlier one is weak."""
    depth, dense_depth, mapping = depths
    models = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    dense = randomized(models.ResNet(depth=dense_depth, **SMALL))
    start = init_cfg(tmp_path / 'a.pth', dense.state_dict(), mapping=mapping)
    network = started(models.ResNetMoD, start, depth=depth)
    norm = f'norm{2 if depth < 50 else 3}'
    again = 0
    for layer, chosen in zip(dense.res_layers, blocks, strict=True):
        stage = getattr(dense, layer)
        kept = nn.Sequential(*(stage[i] for i in chosen))
        standard = [b for b in getattr(network, layer) if not isinstance(b, MoDBlock)]
        for n, i in enumerate(chosen):
            if i in chosen[:n]:
                again += 1
                kept[n] = standard[n]
                weak, full = getattr(standard[n], norm), getattr(stage[i], norm)
                torch.testing.assert_close(weak.weight, 0.01 * full.weight)
                torch.testing.assert_close(weak.bias, 0.01 * full.bias)
                assert torch.equal(standard[n].conv1.weight, stage[i].conv1.weight)
        setattr(dense, layer, kept)
    assert again == sum(len(chosen) - len(set(chosen)) for chosen in blocks)
    # In eval mode: the statistics in the norms have to be the dense ones too.
    torch.testing.assert_close(outputs(without_mod_blocks(network)), outputs(dense))


@pytest.mark.parametrize('mapping', MAPPINGS)
def test_mappings_begin_at_the_first_block_and_never_go_back(mapping):
    for count in range(1, 20):
        for blocks in range(1, 40):
            chosen = MAPPINGS[mapping](range(0, 2 * count, 2), blocks)
            assert chosen[0] == 0
            assert len(chosen) == count
            assert chosen == sorted(chosen)
            assert max(chosen) < blocks
            if mapping == 'spread':
                assert len(set(chosen)) == min(count, blocks)
                assert chosen[-1] == blocks - 1 or count == 1


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('depth', [18, 50])
def test_the_mod_blocks_start_near_identity(backbones, tmp_path, depth, training):
    dense = randomized(backbones.ResNet(depth=depth, **SMALL))
    change = {}
    for strength, options in ((0.01, {}), (1.0, dict(strength=1.0))):
        start = init_cfg(tmp_path / 'a.pth', dense.state_dict(), **options)
        network = started(backbones.ResNetMoD, start, depth=depth, norm_eval=False)
        out = outputs(network, training, 48)[-1]
        skipped = outputs(without_mod_blocks(network), training, 48)[-1]
        change[strength] = float((out - skipped).norm() / skipped.norm())
    assert 0 < change[0.01] < 0.05
    assert change[0.01] < 0.1 * change[1.0]


@pytest.mark.parametrize('norm_eval', [True, False])
@pytest.mark.parametrize(('depth', 'seed'), [(18, 0), (50, 1), (75, 2)])
def test_every_parameter_of_every_mod_block_learns(backbones, tmp_path, depth, seed, norm_eval):
    """In the first two steps, under mmdetection's settings too."""
    dense = randomized(backbones.ResNet(depth=min(depth, 50), **SMALL), seed)
    network = started(
        backbones.ResNetMoD,
        init_cfg(tmp_path / 'a.pth', dense.state_dict()),
        depth=depth,
        norm_eval=norm_eval,
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=not norm_eval),
    )
    blocks = {n: m for n, m in network.named_modules() if isinstance(m, MoDBlock)}
    assert any(name.startswith('layer1') for name in blocks)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    learnt = set()
    for _ in range(2):
        optimizer.zero_grad()
        out = network(torch.rand(2, 3, 64, 64))
        sum((o * torch.randn_like(o)).mean() for o in out).backward()
        learnt |= {
            f'{n}.{p}'
            for n, block in blocks.items()
            for p, parameter in block.named_parameters()
            if parameter.grad is not None and parameter.grad.any()
        }
        optimizer.step()
    assert learnt == {
        f'{n}.{p}' for n, block in blocks.items() for p, _ in block.named_parameters()
    }
    # What came from the checkpoint is as frozen as ever, and so are all norms under norm_eval.
    assert torch.equal(network.layer1[0].conv1.weight, dense.layer1[0].conv1.weight)
    assert not any(p.requires_grad for p in network.layer1[0].parameters())
    norms = [m for m in blocks['layer1.1'].modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.training is not norm_eval for norm in norms)


def test_replacing_blocks_keep_their_strength(backbones, tmp_path):
    """There a weak block would erase the channels that it replaces."""
    dense = randomized(backbones.ResNet(depth=18, **SMALL))
    start = init_cfg(tmp_path / 'a.pth', dense.state_dict())
    network = started(backbones.ResNetMoD, start, depth=18, fusion='replace')
    assert (network.layer1[1].conv_block[-1].norm.weight == 1).all()


@pytest.mark.parametrize(('depth', 'tensors'), [(18, 60), (50, 160)])
def test_torchvision(backbones, tmp_path, depth, tensors, monkeypatch):
    dense = getattr(torchvision.models, f'resnet{depth}')()
    lines = logged(monkeypatch)
    network = started(
        backbones.ResNetMoD, init_cfg(tmp_path / 'a.pth', dense.state_dict()),
        depth=depth, base_channels=64, stem_channels=64,
    )  # fmt: skip
    assert torch.equal(network.layer4[0].conv2.weight, dense.layer4[0].conv2.weight)
    # mmdetection freezes norms by default.
    assert ['ReestimateNormsHook' in line for line in lines] == [False] + [True] * network.norm_eval
    assert f'{tensors} tensors of a ResNet-{depth}' in lines[0]
    blocks = '0 | 0 | 0 | 0' if depth == 18 else '0 1 | 0 1 | 0 1 2 | 0 1'
    assert f"{blocks} ('first')" in lines[0]
    assert f'{4 if depth == 18 else 7} MoD blocks are fresh' in lines[0]


def logged(monkeypatch):
    """The lines that DensePretrained logs from now on."""
    lines = []
    dense = importlib.import_module('mmcnnmod.checkpoints.dense')
    monkeypatch.setattr(dense, 'print_log', lambda line, **_: lines.append(line))
    return lines


@pytest.mark.parametrize('kind', ['name', 'class', 'path', 'list'])
def test_found_in_every_scope_and_last_of_all(toolbox, backbones, tmp_path, kind):
    """No other initialisation, zero_init_residual say, comes after it."""
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    dense = randomized(backbones.ResNet(depth=50, **SMALL))
    start = init_cfg(tmp_path / 'a.pth', dense.state_dict())
    if kind == 'class':
        start['type'] = DensePretrained
    if kind == 'path':  # what becomes of a class in a new-style config
        start['type'] = 'mmcnnmod.checkpoints.dense.DensePretrained'
    if kind == 'list':
        start = [start, dict(type='Constant', val=3, layer='BatchNorm2d')]
    network = backbones.ResNetMoD(depth=50, init_cfg=start, zero_init_residual=True, **SMALL)
    given = network.init_cfg
    with DefaultScope.overwrite_default_scope(toolbox):
        WholeModel(network).init_weights()
    assert network.is_init
    assert network.init_cfg == given
    assert torch.equal(network.layer1[0].norm3.weight, dense.layer1[0].norm3.weight)
    expected = 0.03 if kind == 'list' else 0.01
    torch.testing.assert_close(
        network.layer1[1].conv_block[-1].norm.weight, torch.full((16,), expected)[:4]
    )


def test_deformable_convolutions_are_not_drawn_again(tmp_path):
    """They initialise themselves when the model does; their offsets are no dense network's."""
    mmdet = pytest.importorskip('mmcnnmod.toolboxes.mmdet')
    dense = randomized(mmdet.ResNet(depth=50, **SMALL))
    network = started(
        mmdet.ResNetMoD,
        init_cfg(tmp_path / 'a.pth', dense.state_dict()),
        depth=50,
        dcn=dict(type='DCNv2', deform_groups=1),
        stage_with_dcn=(False, True, True, True),
    )
    assert torch.equal(network.layer2[0].conv2.weight, dense.layer2[0].conv2.weight)
    assert not network.layer2[0].conv2.conv_offset.weight.any()


@pytest.mark.parametrize('toolbox', ['mmseg', 'mmdet'])
def test_pretrained_beside_it_is_refused_by_the_toolbox(toolbox):
    models = pytest.importorskip(f'mmcnnmod.toolboxes.{toolbox}')
    with pytest.raises(AssertionError, match='init_cfg and pretrained'):
        models.ResNetMoD(
            depth=18, pretrained='a.pth', init_cfg=dict(type='DensePretrained', checkpoint='b.pth')
        )


def test_a_new_stem_is_no_mistake(backbones, tmp_path, monkeypatch):
    dense = randomized(backbones.ResNet(depth=18, **SMALL))
    lines = logged(monkeypatch)
    start = init_cfg(tmp_path / 'a.pth', dense.state_dict())
    network = started(backbones.ResNetMoD, start, depth=18, in_channels=4)
    assert torch.equal(network.layer4[0].conv2.weight, dense.layer4[0].conv2.weight)
    assert lines[0].endswith('and 1 tensors such as conv1.weight')


def test_fewer_stages(backbones, tmp_path, monkeypatch):
    """As mmdetection's detectors that end in C4 have."""
    dense = randomized(backbones.ResNet(depth=50, **SMALL))
    lines = logged(monkeypatch)
    started(
        backbones.ResNetMoD, init_cfg(tmp_path / 'a.pth', dense.state_dict()), depth=50,
        num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,),
    )  # fmt: skip
    assert "0 1 | 0 1 | 0 1 2 ('first'); 6 MoD blocks are fresh" in lines[0]


def dense_weights(depth=50, **kwargs):
    models = pytest.importorskip('mmseg.models.backbones')
    return models.ResNet(depth=depth, **{**SMALL, **kwargs}).state_dict()


def test_the_backbone_among_several_networks(tmp_path):
    models = pytest.importorskip('mmcnnmod.toolboxes.mmseg')
    one, two = dense_weights(), dense_weights()
    both = {
        **{f'backbone.{name}': tensor for name, tensor in one.items()},
        **{f'teacher.{name}': tensor for name, tensor in two.items()},
    }
    start = init_cfg(tmp_path / 'a.pth', both)
    for prefix, weights in ((None, one), ('teacher.', two), ('teacher', two)):
        network = started(models.ResNetMoD, {**start, 'prefix': prefix}, depth=50)
        assert torch.equal(network.conv1.weight, weights['conv1.weight'])


def resnext(weights):
    return {k: v.repeat_interleave(2, 0) if 'conv1' in k and 'layer' in k else v
            for k, v in weights.items()}  # fmt: skip


@pytest.mark.parametrize(
    ('weights', 'options', 'words'),
    [
        (lambda: {'a': torch.zeros(1)}, {}, ['no ResNet, but 1 tensors of a']),
        (lambda: dense_weights(18), {}, ['needs a dense ResNet-50, 101 or 152', 'is a ResNet-18']),
        (lambda: dense_weights(base_channels=32), {}, ['ResNet-50', 'of 160 tensors match']),
        (lambda: resnext(dense_weights()), {}, ['of another shape', '16x16x1x1 here', '32x16x1x1']),
        (lambda: dense_weights(norm_cfg=dict(type='GN', num_groups=4)), {},
         ['40 of 160 tensors match', '120 missing', 'norms']),
        (lambda: dense_weights(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1),
                               out_indices=(2,)), {}, ['ResNet-41', '125 of 160 tensors match']),
        (lambda: dense_weights(deep_stem=True), {}, ['stem of one conv', 'three convolutions']),
        (dense_weights, {'prefix': 'backbone.'}, ["prefix 'backbone.'", "but under ''"]),
        (lambda: {f'{p}.{k}': v for k, v in dense_weights().items() for p in 'qk'}, {},
         ['2 ResNets', "'q.', 'k.'"]),
        (dense_weights, {'mapping': 'every'}, ["mapping 'every'", 'first, same, spread']),
        (dense_weights, {'strength': 0}, ['strength must be positive']),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(tmp_path, weights, options, words):
    models = pytest.importorskip('mmcnnmod.toolboxes.mmseg')
    start = {**init_cfg(tmp_path / 'a.pth', weights()), **options}
    network = models.ResNetMoD(depth=50, **SMALL)
    before = copied(network)
    del start['type']
    with pytest.raises(UserError, match=r'^DensePretrained .*a\.pth: [^\n]*$') as error:
        DensePretrained(**start)(network)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert_equal(network.state_dict(), before)


def test_only_for_dense_weights_and_mod_networks(backbones):
    dense, mod = backbones.ResNet(depth=18, **SMALL), backbones.ResNetMoD(depth=18, **SMALL)
    with pytest.raises(UserError, match=r"already holds a ResNet-MoD.*type='Pretrained'"):
        start_from_dense(mod, mod.state_dict())
    with pytest.raises(UserError, match=r"no MoD blocks.*type='Pretrained'"):
        start_from_dense(dense, dense.state_dict())
    with pytest.raises(UserError, match='Linear has no MoD blocks'):
        start_from_dense(nn.Linear(1, 1), dense.state_dict())


def test_a_missing_file(backbones):
    network = backbones.ResNetMoD(
        depth=18, init_cfg=dict(type='DensePretrained', checkpoint='nowhere.pth'), **SMALL
    )
    with pytest.raises(UserError, match=r'checkpoint nowhere\.pth does not exist'):
        network.init_weights()
