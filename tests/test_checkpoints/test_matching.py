"""A checkpoint that does not belong to the network fails loudly."""

import pytest
import torch

from mmcnnmod.checkpoints import judge, match_state_dicts
from mmcnnmod.errors import UserError

from ..utils.dense_networks import SMALL, assert_equal, init_cfg


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


def test_a_new_classifier_is_not_foreign():
    model = {f'layer{i}': torch.zeros(2) for i in range(40)}
    checkpoint = {**model, 'layer0': torch.zeros(3)}
    match = match_state_dicts(model, checkpoint)
    assert not match.foreign
    assert not match.complete
    assert match_state_dicts(model, model).complete


def pretrained(path, state_dict, prefix='', **options):
    return init_cfg(path / 'a.pth', state_dict, prefix, kind='Pretrained', **options)


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_pretrained_with_and_without_prefix(backbones, tmp_path, prefix):
    source = backbones.ResNetMoD(depth=18, **SMALL)
    start = pretrained(tmp_path, source.state_dict(), prefix)
    if prefix:
        start['prefix'] = prefix
    network = backbones.ResNetMoD(depth=18, init_cfg=start, **SMALL)
    network.init_weights()
    assert_equal(network.state_dict(), source.state_dict())


def test_foreign_checkpoints_are_refused_before_anything_is_changed(backbones, tmp_path):
    other = backbones.ResNetMoD(depth=50, **SMALL).state_dict()
    start = pretrained(tmp_path, other, 'module.encoder_q.')
    for given in ({}, dict(prefix='backbone.'), dict(prefix='module.encoder_q')):
        network = backbones.ResNetMoD(depth=18, init_cfg={**start, **given}, **SMALL)
        with pytest.raises(
            UserError, match=r"another network: \d+ of .* it holds a ResNet-MoD under 'encoder_q\.'"
        ):
            network.init_weights()


PREFIXES = ['module.', 'module.backbone.', 'student.backbone.', 'online_encoder.', 'encoder_q.']


@pytest.mark.parametrize('mod', [True, False])
@pytest.mark.parametrize('prefix', PREFIXES)
def test_a_prefix_is_found(backbones, tmp_path, prefix, mod):
    """Of any family."""
    kinds = (backbones.ResNetMoD, backbones.MobileNetV2MoD)
    for kind, options in zip(kinds, (dict(depth=18, **SMALL), {}), strict=True):
        dense = kind.__bases__[-1]
        source = (kind if mod else dense)(**options).state_dict()
        network = kind(init_cfg=pretrained(tmp_path, source, prefix), **options)
        network.init_weights()
        own = network.state_dict()
        same = [name for name in own if name in source and torch.equal(own[name], source[name])]
        assert len(same) > (0.99 if mod else 0.4) * len(own)


@pytest.mark.parametrize('wrapped', [True, False])
@pytest.mark.parametrize('prefix', [None, 'encoder_q', 'module.encoder_q', 'module.encoder_q.'])
def test_a_prefix_is_the_same_with_and_without_wrapper(backbones, tmp_path, prefix, wrapped):
    """And without one it is that of the network which is no copy of the other."""
    both = {}
    for name in ('encoder_q', 'encoder_k'):
        source = backbones.ResNetMoD(depth=18, **SMALL).state_dict()
        both.update({f'{name}.{key}': tensor for key, tensor in source.items()})
    start = dict(pretrained(tmp_path, both, 'module.' if wrapped else ''), prefix=prefix)
    network = backbones.ResNetMoD(depth=18, init_cfg=start, **SMALL)
    network.init_weights()
    assert torch.equal(network.conv1.weight, both['encoder_q.conv1.weight'])


def test_the_network_itself_is_taken_rather_than_its_moving_average(backbones, tmp_path):
    own, average = (backbones.ResNetMoD(depth=18, **SMALL).state_dict() for _ in range(2))
    for prefix in ('', 'backbone.', 'student.'):
        both = {f'{prefix}{n}': t for n, t in own.items()}
        both.update({f'ema_{prefix or "model."}{n}': t for n, t in average.items()})
        network = backbones.ResNetMoD(depth=18, init_cfg=pretrained(tmp_path, both), **SMALL)
        network.init_weights()
        assert torch.equal(network.conv1.weight, own['conv1.weight'])


@pytest.mark.parametrize(('depth', 'given'), [(152, 50), (101, 50), (75, 50)])
def test_a_trained_mod_network_of_another_depth_is_refused(backbones, depth, given):
    network = backbones.ResNetMoD(depth=depth, **SMALL)
    assert judge(network, backbones.ResNetMoD(depth=given, **SMALL).state_dict()).foreign
    # Of the dense network every block that there is comes along.
    assert not judge(network, backbones.ResNet(depth=given, **SMALL).state_dict()).foreign


def test_the_dense_network_of_equal_depth_is_accepted(backbones, tmp_path):
    """What it does not fill learns, in frozen stages too."""
    dense = backbones.ResNet(depth=50, **SMALL).state_dict()
    start = pretrained(tmp_path, dense)
    network = backbones.ResNetMoD(depth=50, frozen_stages=1, init_cfg=start, **SMALL)
    network.init_weights()
    assert torch.equal(network.layer1[0].conv1.weight, dense['layer1.0.conv1.weight'])
    assert all(parameter.requires_grad for parameter in network.layer1[1].parameters())
    assert not any(parameter.requires_grad for parameter in network.layer1[0].parameters())
