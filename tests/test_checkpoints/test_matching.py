"""A checkpoint that does not belong to the network fails loudly."""

import pytest
import torch

from mmcnnmod.checkpoints import match_state_dicts

SMALL = dict(base_channels=16, stem_channels=16)


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


def save(path, state_dict, prefix=''):
    torch.save({'state_dict': {prefix + name: v for name, v in state_dict.items()}}, path)
    return str(path)


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_pretrained_with_and_without_prefix(backbones, tmp_path, prefix):
    source = backbones.ResNetMoD(depth=18, **SMALL)
    init_cfg = dict(
        type='Pretrained', checkpoint=save(tmp_path / 'a.pth', source.state_dict(), prefix)
    )
    if prefix:
        init_cfg['prefix'] = prefix
    network = backbones.ResNetMoD(depth=18, init_cfg=init_cfg, **SMALL)
    network.init_weights()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name


def test_foreign_checkpoints_are_refused(backbones, tmp_path):
    source = backbones.ResNetMoD(depth=18, **SMALL).state_dict()
    other = backbones.ResNetMoD(depth=50, **SMALL).state_dict()
    for path in (save(tmp_path / 'a.pth', source, 'encoder.'), save(tmp_path / 'b.pth', other)):
        network = backbones.ResNetMoD(
            depth=18, init_cfg=dict(type='Pretrained', checkpoint=path), **SMALL
        )
        with pytest.raises(ValueError, match=r'another network: \d+ of \d+ tensors'):
            network.init_weights()


def test_the_dense_network_of_equal_depth_is_accepted(backbones, tmp_path):
    """Its standard blocks are ours: a partial warm start, not an error."""
    dense = backbones.ResNet(depth=50, **SMALL).state_dict()
    network = backbones.ResNetMoD(
        depth=50,
        init_cfg=dict(type='Pretrained', checkpoint=save(tmp_path / 'a.pth', dense)),
        **SMALL,
    )
    network.init_weights()
    assert torch.equal(network.layer1[0].conv1.weight, dense['layer1.0.conv1.weight'])
