"""A backbone that one toolbox trained loads strictly in the others, and computes the same there."""

import importlib
from itertools import permutations

import pytest
import torch
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mmcnnmod.checkpoints import renames
from mmcnnmod.toolboxes import MINIMUM_VERSIONS, is_absent

PAIRS = [
    (kind, source, target)
    for kind, toolboxes in {
        'ResNetMoD': ('mmpretrain', 'mmseg', 'mmdet'),
        'ResNetV1cMoD': ('mmpretrain', 'mmseg'),
        'ResNetV1dMoD': ('mmpretrain', 'mmseg', 'mmdet'),
        'MobileNetV2MoD': ('mmpretrain', 'mmdet'),  # mmseg's is another network, see below
    }.items()
    for source, target in permutations(toolboxes, 2)
]


MOD_PARTS = ('.selector.', '.conv_block.')
SIZES = {
    'ResNet': dict(depth=50, base_channels=16, stem_channels=16, c=16),
    'MobileNet': dict(widen_factor=0.5, out_indices=(6,)),
}


def backbone(toolbox, kind, seed, **kwargs):
    if is_absent(toolbox):
        pytest.skip(f'{toolbox} is not installed')
    torch.manual_seed(seed)
    size = next(size for family, size in SIZES.items() if kind.startswith(family))
    network = getattr(importlib.import_module(f'mmcnnmod.toolboxes.{toolbox}'), kind)(
        **{**size, **kwargs}
    )
    for name, buffer in network.named_buffers():  # tell each norm from the others
        if name.endswith('running_mean'):
            nn.init.normal_(buffer)
    network.eval()  # which returns nothing in the toolboxes
    return network


def outputs(network):
    torch.manual_seed(0)
    with torch.no_grad():
        out = network(torch.rand(1, 3, 64, 64))
    return out if isinstance(out, torch.Tensor) else out[-1]


class Segmentor(BaseModel):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs):
        return self.backbone(inputs)


@pytest.mark.smoke
@pytest.mark.parametrize(('kind', 'source', 'target'), PAIRS)
def test_strictly_and_alone(kind, source, target):
    trained, network = backbone(source, kind, 1), backbone(target, kind, 2)
    assert not torch.allclose(outputs(network), outputs(trained))
    network.load_state_dict(trained.state_dict(), strict=True)
    torch.testing.assert_close(outputs(network), outputs(trained))


@pytest.mark.parametrize(('kind', 'source', 'target'), PAIRS)
def test_by_init_cfg_out_of_a_whole_model(kind, source, target, tmp_path):
    trained = backbone(source, kind, 1)
    torch.save({'state_dict': Segmentor(trained).state_dict()}, tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix='backbone.')
    network = backbone(target, kind, 2, init_cfg=init_cfg)
    network.init_weights()
    torch.testing.assert_close(outputs(network), outputs(trained))


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, load_state_dict])
def test_a_whole_model_strictly(load):
    """By torch's function and by mmengine's, which walk through the modules on their own."""
    trained = Segmentor(backbone('mmpretrain', 'ResNetV1dMoD', 1)).eval()
    model = Segmentor(backbone('mmseg', 'ResNetV1dMoD', 2)).eval()
    load(model, trained.state_dict(), strict=True)
    torch.testing.assert_close(outputs(model), outputs(trained))
    average = ExponentialMovingAverage(model)  # holds a deep copy
    load(average.module, trained.state_dict(), strict=True)


def test_other_strides_number_the_pooling_otherwise():
    """mmpretrain leaves the pooling out where the stride is 1: even its own names differ."""
    dilated = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    trained = backbone('mmpretrain', 'ResNetV1dMoD', 1)
    network = backbone('mmpretrain', 'ResNetV1dMoD', 2, **dilated)
    assert renames(trained.state_dict(), network)
    network.load_state_dict(trained.state_dict(), strict=True)
    back = backbone('mmseg', 'ResNetV1dMoD', 3)
    back.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(outputs(back), outputs(trained))


@pytest.mark.parametrize('toolbox', ['mmpretrain', 'mmdet'])
def test_mobilenet_v2_with_and_without_its_last_convolution(toolbox):
    """mmsegmentation's has none: all else is taken over."""
    trained, network = (backbone(t, 'MobileNetV2MoD', i) for i, t in enumerate((toolbox, 'mmseg')))
    result = network.load_state_dict(trained.state_dict(), strict=False)
    assert not result.missing_keys
    assert all(name.startswith('conv2.') for name in result.unexpected_keys)
    torch.testing.assert_close(outputs(network), outputs(trained))


def test_strictness_stays(toolbox):
    """What is missing, in excess, or of another shape is told as before."""
    network = backbone(toolbox, 'ResNetV1dMoD', 1)
    weights = network.state_dict()
    broken = {**weights, 'stem.9.weight': torch.zeros(1)}
    broken.pop('layer1.0.conv1.weight')
    broken['layer2.0.conv1.weight'] = torch.zeros(3)
    with pytest.raises(RuntimeError) as error:
        network.load_state_dict(broken, strict=True)
    for words in ('layer1.0.conv1', 'stem.9.weight', 'layer2.0.conv1'):
        assert words in str(error.value)
    assert set(weights) == set(network.state_dict())


def test_the_state_dict_that_was_given_is_left_alone():
    trained = backbone('mmpretrain', 'ResNetV1cMoD', 1).state_dict()
    names = list(trained)
    backbone('mmseg', 'ResNetV1cMoD', 2).load_state_dict(trained)
    assert list(trained) == names


@pytest.mark.parametrize(('source', 'target'), permutations(MINIMUM_VERSIONS, 2))
def test_inverted_residuals_of_a_dense_network(source, target):
    """mmdetection names the convolutions of MobileNetV2, the others number them."""
    if is_absent(source):
        pytest.skip(f'{source} is not installed')
    dense = importlib.import_module(f'{source}.models.backbones').MobileNetV2(widen_factor=0.5)
    network = backbone(target, 'MobileNetV2MoD', 1)
    prefixed = {f'x.{name}': tensor for name, tensor in dense.state_dict().items()}
    names = renames(prefixed, network, 'x.')
    assert bool(names) == ('mmdet' in (source, target))
    here = network.state_dict()
    found = {
        name: tensor
        for old, tensor in prefixed.items()
        if (name := names.get(old, old).removeprefix('x.')) in here
    }
    standard = {name for name in here if not any(part in name for part in MOD_PARTS)}
    assert standard - set(found) <= {n for n in here if n.startswith('conv2.')}
    assert all(tensor.shape == here[name].shape for name, tensor in found.items())
