"""Weights of the same network are loaded; weights of another network raise an error."""

import pytest
import torch

from mmcnnmod.checkpoints import judge, match_state_dicts
from mmcnnmod.errors import UserError

from ..utils.dense_networks import SMALL, add_prefix, assert_same_tensors, init_cfg


def test_match_counts_names_and_shapes():
    model = {name: torch.zeros(2) for name in 'abcd'}
    model['n.num_batches_tracked'] = torch.tensor(0)
    match = match_state_dicts(model, {'x.a': torch.ones(2), 'x.b': torch.ones(3)}, prefix='x.')
    assert (match.total, match.matched) == (4, 1)
    assert match.missing == ('c', 'd')
    assert match.clashing == ('b',)
    assert match.foreign
    assert not match.complete
    assert str(match) == (
        '1 of 4 tensors match, 2 missing (such as c), 1 of another shape (such as b)'
    )


def test_one_clash_is_not_foreign():
    model = {f'layer{i}': torch.zeros(2) for i in range(40)}
    checkpoint = {**model, 'layer0': torch.zeros(3)}
    match = match_state_dicts(model, checkpoint)
    assert not match.foreign
    assert not match.complete
    assert match_state_dicts(model, model).complete


@pytest.fixture
def resnet_18(backbones, tmp_path):
    """Build a ResNetMoD 18 that loads the given weights by ``type='Pretrained'``."""

    def load(state_dict, **settings):
        start = dict(init_cfg(tmp_path / 'a.pth', state_dict, kind='Pretrained'), **settings)
        network = backbones.ResNetMoD(depth=18, init_cfg=start, **SMALL)
        network.init_weights()
        return network

    return load


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_given_prefix(backbones, resnet_18, prefix):
    source = backbones.ResNetMoD(depth=18, **SMALL).state_dict()
    network = resnet_18(add_prefix(prefix, source), **(dict(prefix=prefix) if prefix else {}))
    assert_same_tensors(network.state_dict(), source)


def test_checkpoint_of_another_network_raises_an_error(backbones, resnet_18):
    other = add_prefix('module.encoder_q.', backbones.ResNetMoD(depth=50, **SMALL).state_dict())
    for settings in ({}, dict(prefix='backbone.'), dict(prefix='module.encoder_q')):
        with pytest.raises(
            UserError, match=r"another network: \d+ of .* it holds a ResNet-MoD under 'encoder_q\.'"
        ):
            resnet_18(other, **settings)


PREFIXES = ['module.', 'module.backbone.', 'student.backbone.', 'online_encoder.', 'encoder_q.']


@pytest.mark.parametrize('mod', [True, False])
@pytest.mark.parametrize('prefix', PREFIXES)
def test_prefix_is_detected(backbones, tmp_path, prefix, mod):
    kinds = (backbones.ResNetMoD, backbones.MobileNetV2MoD)
    for kind, options in zip(kinds, (dict(depth=18, **SMALL), {}), strict=True):
        dense = kind.__bases__[-1]
        source = (kind if mod else dense)(**options).state_dict()
        start = init_cfg(tmp_path / 'a.pth', source, prefix, kind='Pretrained')
        network = kind(init_cfg=start, **options)
        network.init_weights()
        own = network.state_dict()
        same = [name for name in own if name in source and torch.equal(own[name], source[name])]
        assert len(same) > (0.99 if mod else 0.4) * len(own)


@pytest.mark.parametrize('wrapped', [True, False])
@pytest.mark.parametrize('prefix', [None, 'encoder_q', 'module.encoder_q', 'module.encoder_q.'])
def test_wrapper_is_ignored_and_momentum_encoder_not_loaded(backbones, resnet_18, prefix, wrapped):
    query, key = (backbones.ResNetMoD(depth=18, **SMALL).state_dict() for _ in range(2))
    both = add_prefix('encoder_q.', query) | add_prefix('encoder_k.', key)
    network = resnet_18(add_prefix('module.' if wrapped else '', both), prefix=prefix)
    assert torch.equal(network.conv1.weight, query['conv1.weight'])


def test_network_is_preferred_to_its_moving_average(backbones, resnet_18):
    own, average = (backbones.ResNetMoD(depth=18, **SMALL).state_dict() for _ in range(2))
    for prefix in ('', 'backbone.', 'student.'):
        both = add_prefix(prefix, own) | add_prefix(f'ema_{prefix or "model."}', average)
        assert torch.equal(resnet_18(both).conv1.weight, own['conv1.weight'])


@pytest.mark.parametrize(('depth', 'given'), [(152, 50), (101, 50), (75, 50)])
def test_mod_network_of_another_depth_is_foreign(backbones, depth, given):
    network = backbones.ResNetMoD(depth=depth, **SMALL)
    assert judge(network, backbones.ResNetMoD(depth=given, **SMALL).state_dict()).foreign
    # A dense network of another depth is not: the blocks that it has are loaded.
    assert not judge(network, backbones.ResNet(depth=given, **SMALL).state_dict()).foreign


def test_mod_blocks_that_a_dense_checkpoint_lacks_learn_in_frozen_stages(backbones, tmp_path):
    dense = backbones.ResNet(depth=50, **SMALL).state_dict()
    start = init_cfg(tmp_path / 'a.pth', dense, kind='Pretrained')
    network = backbones.ResNetMoD(depth=50, frozen_stages=1, init_cfg=start, **SMALL)
    network.init_weights()
    assert torch.equal(network.layer1[0].conv1.weight, dense['layer1.0.conv1.weight'])
    assert all(parameter.requires_grad for parameter in network.layer1[1].parameters())
    assert not any(parameter.requires_grad for parameter in network.layer1[0].parameters())
