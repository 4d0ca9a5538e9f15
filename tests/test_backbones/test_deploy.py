"""``switch_to_deploy`` of every family: the same outputs, and errors afterwards."""

import copy

import pytest
import torch
from torch import nn

from mmcnnmod import switch_to_deploy
from mmcnnmod.analysis import channel_usage
from mmcnnmod.analysis.candidates import skip_bound
from mmcnnmod.analysis.counting import count_by_mmengine, count_by_ptflops
from mmcnnmod.backbones import mod_backbone
from mmcnnmod.errors import UserError
from mmcnnmod.layers import MoDBlock
from mmcnnmod.ops import DeployedMoDBlock, deployed_block, log_once, operator_problem

from ..utils.blocks import randomize_norms
from ..utils.networks import BN, CASES, Family, evaluating, images, mod_blocks

SMALL = dict(depth=26, base_channels=16, stem_channels=16, c=4)
OPTIONS = [
    dict(),
    dict(placement='every'),
    dict(position='last'),
    dict(position='original', placement='every'),
    dict(fusion='replace'),
    dict(mod_stages=(1, 3)),
]


def build(case='resnet', **options):
    """A network in eval mode that returns the outputs of four stages, with random norms."""
    torch.manual_seed(0)
    network = Family(*CASES[case]).build(**{'out_indices': (0, 1, 2, 3), **options})
    randomize_norms(network)
    return evaluating(network)


def deployed_blocks(network):
    return [module for module in network.modules() if isinstance(module, DeployedMoDBlock)]


@torch.no_grad()
def assert_same_when_deployed(network, x):
    """Compare all outputs after the forward pass, because a later block might overwrite them."""
    expected, given = network(x), x.clone()
    network.switch_to_deploy()
    torch.testing.assert_close(list(network(x)), list(expected), rtol=1e-3, atol=1e-4)
    assert torch.equal(x, given)


# The ResNets of the other toolboxes have the same blocks.
@pytest.mark.parametrize('case', sorted(CASES.keys() - {'resnet-mmseg', 'resnet-mmdet'}))
@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
def test_same_outputs(case, options, layout):
    network = build(case, **options).to(memory_format=layout)
    num_blocks = len(mod_blocks(network))
    assert_same_when_deployed(network, images().to(memory_format=layout))
    assert len(deployed_blocks(network)) == num_blocks > 0
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.smoke
def test_outputs_differ_by_rounding_alone():
    network, x = build().double(), images().double()
    with torch.no_grad():
        expected = network(x)
        network.switch_to_deploy()
        torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize(
    'before', [nn.Identity(), nn.Dropout(0.5), nn.Sequential(nn.Identity()), nn.Sequential()]
)
def test_blocks_that_return_their_input(before):
    """The next block must not overwrite the output of an earlier block or stage."""
    network = build(placement='every', **SMALL)
    network.layer2[0] = nn.Conv2d(16, 32, 1, stride=2)
    network.layer2.insert(0, before)
    network.layer3[1] = before
    evaluating(network)
    assert isinstance(network.layer2[2], MoDBlock)
    assert_same_when_deployed(network, images())

    network = build(mod_stages=(0,), placement='every', **SMALL)
    network.layer1[0] = before
    assert_same_when_deployed(evaluating(network), images())
    assert not network.layer1[1].inplace


def test_first_blocks_of_stages_do_not_work_in_place():
    network = build(placement='every', **SMALL)
    network.switch_to_deploy()
    inplace = [[getattr(block, 'inplace', None) for block in stage] for stage in
               (network.layer1, network.layer2, network.layer3)]  # fmt: skip
    assert inplace == [[False, True], [None, True], [None, True, True]]


@pytest.mark.parametrize('case', ['resnet', 'vgg-bn'])
def test_operator_supports_resnet_and_vgg(case):
    network = build(case)
    network.switch_to_deploy()
    assert {block.problem for block in deployed_blocks(network)} == {operator_problem()}


def test_reason_for_plain_pytorch_is_logged_once(monkeypatch):
    messages = []
    monkeypatch.setattr(mod_backbone, 'log_once', messages.append)
    network = build('mobilenet-v2')
    network.switch_to_deploy()
    assert len(deployed_blocks(network)) > 1
    (message,) = messages
    assert 'in plain PyTorch, without the operator' in message
    assert 'ReLU6, not ReLU' in message


def test_training_and_loading_raise_errors():
    network = build(init_cfg=dict(type='DensePretrained', checkpoint='x.pth'), frozen_stages=1)
    state = network.state_dict()
    network.switch_to_deploy()
    deployed_state = copy.deepcopy(network.state_dict())
    network.switch_to_deploy()  # a second time changes nothing
    evaluating(network)  # the toolboxes freeze again when the mode is set
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules())
    for call in (network.train, lambda: network.load_state_dict(state, strict=False)):
        with pytest.raises(RuntimeError, match=r'^[^\n]*switched to deploy[^\n]*$'):
            call()
    with pytest.raises(RuntimeError, match='switched to deploy'):
        nn.ModuleDict({'backbone': network}).load_state_dict({'backbone.x': torch.zeros(1)})
    torch.testing.assert_close(network.state_dict(), deployed_state, rtol=0, atol=0)
    assert not network.training


@torch.no_grad()
def test_gradients_of_the_images():
    network = build()
    deployed = copy.deepcopy(network)
    deployed.switch_to_deploy()
    gradients, x = [], images(32)[:2]
    for module in (network, deployed):
        inputs = x.clone().requires_grad_()
        with torch.enable_grad():
            module(inputs)[-1].square().sum().backward()
        gradients.append(inputs.grad)
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()


@pytest.mark.parametrize(
    'options',
    [
        dict(conv_cfg=dict(type='ConvWS'), norm_cfg=BN),  # its weights are scaled in every forward
        dict(norm_cfg=dict(type='BN', track_running_stats=False)),
    ],
)
def test_norms_that_cannot_be_folded_stay(options):
    network = build(norm_eval=False, **options)
    assert_same_when_deployed(network, images())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_skip_bound():
    network = build(skip_bound=True)
    assert not mod_blocks(network)
    assert_same_when_deployed(network, images())


def test_model_with_several_backbones():
    model = nn.ModuleDict({'backbone': build(), 'other': build('vgg')})
    switch_to_deploy(model)
    assert all(network.deploy for network in model.values())
    with pytest.raises(ValueError, match=r'^Linear has no MoD backbone to switch to deploy; .*$'):
        switch_to_deploy(nn.Linear(2, 2))


@pytest.fixture
def messages(monkeypatch):
    """The messages that are logged."""
    log_once.cache_clear()
    found = []
    monkeypatch.setattr(deployed_block, 'print_log', lambda text, **kwargs: found.append(text))
    yield found
    log_once.cache_clear()


def test_removed_options(messages):
    defaults = dict(last_activation='before', order='score', zero_init=False, backend=None)
    build(**defaults)
    build(**defaults)
    for message, option in zip(messages, sorted(defaults), strict=True):
        assert f'the option {option} was removed in 0.2.0 and is ignored' in message
    for option, value in [('backend', 'native'), ('zero_init', True), ('order', 'index'),
                          ('last_activation', 'after')]:  # fmt: skip
        with pytest.raises(UserError, match=rf'^[^\n]*{option}={value!r} was removed in 0.2.0; .'):
            build(**{option: value})
    with pytest.raises(UserError, match='switch_to_deploy'):
        build(backend='eager')


def test_removed_environment_variable(messages, monkeypatch):
    monkeypatch.setenv('MMCNNMOD_BACKEND', 'native')
    build()
    build()
    assert [message.split()[0] for message in messages] == ['MMCNNMOD_BACKEND']


ANALYSES = {
    'mod_blocks': channel_usage.mod_blocks,
    'skip_bound': skip_bound,
    'ptflops': lambda network: count_by_ptflops(network, (32, 32)),
    'mmengine': lambda network: count_by_mmengine(network, (32, 32)),
}


@pytest.mark.parametrize('name', ANALYSES)
def test_analyses_of_mod_blocks_raise_an_error(name):
    network = build()
    network.switch_to_deploy()
    with pytest.raises(UserError, match=r'^[^\n]*ResNetMoD was switched to deploy[^\n]*$'):
        ANALYSES[name](network)
