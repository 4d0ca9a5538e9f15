"""``switch_to_deploy`` of every family: the same outputs, and what is refused afterwards."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmcnnmod import switch_to_deploy
from mmcnnmod.analysis.candidates import skip_bound
from mmcnnmod.analysis.channel_usage import mod_blocks
from mmcnnmod.analysis.counting import count_by_mmengine, count_by_ptflops
from mmcnnmod.backbones import mod_backbone
from mmcnnmod.errors import UserError
from mmcnnmod.layers import MoDBlock
from mmcnnmod.ops import DeployedMoDBlock, deployed_block, log_once, operator_problem

from ..utils.networks import BN, CASES, Family, evaluating, images

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
    """A network in eval mode, with all its outputs and norms that do something."""
    torch.manual_seed(0)
    family = Family(*CASES[case])
    network = family.build(**{'out_indices': (0, 1, 2, 3), **options})
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.uniform_(0.7, 1.3)
            norm.bias.data.uniform_(-0.1, 0.1)
            if norm.track_running_stats:
                norm.running_var.uniform_(0.7, 1.3)
                norm.running_mean.uniform_(-0.1, 0.1)
    return evaluating(network)


def deployed_blocks(network):
    return [module for module in network.modules() if isinstance(module, DeployedMoDBlock)]


def check(network, x, expected=None):
    """All outputs, looked at when the whole forward is over: a map may have been overwritten."""
    with torch.no_grad():
        expected = network(x) if expected is None else expected
        network.switch_to_deploy()
        given = x.clone()
        for out, same in zip(network(x), expected, strict=True):
            torch.testing.assert_close(out, same, rtol=1e-3, atol=1e-4)
    assert torch.equal(x, given)
    return network


# Other toolboxes' ResNets have the same blocks.
@pytest.mark.parametrize('case', sorted(CASES.keys() - {'resnet-mmseg', 'resnet-mmdet'}))
@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
def test_all_outputs_are_the_plain_networks(case, options, layout):
    network = build(case, **options).to(memory_format=layout)
    blocks = sum(isinstance(module, MoDBlock) for module in network.modules())
    check(network, images().to(memory_format=layout))
    assert len(deployed_blocks(network)) == blocks > 0
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.smoke
def test_rounding_is_all_that_differs():
    network = build().double()
    x = images().double()
    with torch.no_grad():
        expected = network(x)
        network.switch_to_deploy()
        for out, same in zip(network(x), expected, strict=True):
            torch.testing.assert_close(out, same)


@pytest.mark.parametrize(
    'before', [nn.Identity(), nn.Dropout(0.5), nn.Sequential(nn.Identity()), nn.Sequential()]
)
def test_what_hands_on_its_input_is_not_overwritten(before):
    """The block behind it would overwrite what a stage has handed out."""
    network = build(placement='every', **SMALL)
    network.layer2[0] = nn.Conv2d(16, 32, 1, stride=2)
    network.layer2.insert(0, before)
    network.layer3[1] = before
    evaluating(network)
    assert isinstance(network.layer2[2], MoDBlock)
    check(network, images())

    network = build(mod_stages=(0,), placement='every', **SMALL)
    network.layer1[0] = before
    check(evaluating(network), images())
    assert not network.layer1[1].inplace


def test_only_blocks_whose_input_nobody_reads_work_in_place():
    network = build(placement='every', **SMALL)
    network.switch_to_deploy()
    inplace = [[getattr(block, 'inplace', None) for block in stage] for stage in
               (network.layer1, network.layer2, network.layer3)]  # fmt: skip
    assert inplace == [[False, True], [None, True], [None, True, True]]


def test_the_operator_is_what_resnets_get():
    for case in ('resnet', 'vgg-bn'):
        network = build(case)
        network.switch_to_deploy()
        assert {block.problem for block in deployed_blocks(network)} == {operator_problem()}


def test_why_there_is_no_operator_is_said_once(monkeypatch):
    said = []
    monkeypatch.setattr(mod_backbone, 'log_once', said.append)
    network = build('mobilenet-v2')
    network.switch_to_deploy()
    assert len(deployed_blocks(network)) > 1
    (line,) = said
    assert 'in plain PyTorch, without the operator' in line
    assert 'ReLU6, not ReLU' in line


def test_it_is_for_inference_alone(tmp_path):
    network = build(init_cfg=dict(type='DensePretrained', checkpoint='x.pth'), frozen_stages=1)
    state = network.state_dict()
    network.switch_to_deploy()
    before = copy.deepcopy(network.state_dict())
    network.switch_to_deploy()  # a second time changes nothing
    evaluating(network)  # the toolboxes freeze anew whenever the mode is set
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules())
    for refused in (network.train, lambda: network.load_state_dict(state, strict=False)):
        with pytest.raises(RuntimeError, match=r'^[^\n]*switched to deploy[^\n]*$'):
            refused()
    with pytest.raises(RuntimeError, match='switched to deploy'):
        nn.ModuleDict({'backbone': network}).load_state_dict({'backbone.x': torch.zeros(1)})
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not network.training


@torch.no_grad()
def test_gradients_of_the_images():
    network = build()
    deployed = copy.deepcopy(network)
    deployed.switch_to_deploy()
    gradients, pictures = [], images(32)[:2]
    for one in (network, deployed):
        x = pictures.clone().requires_grad_()
        with torch.enable_grad():
            one(x)[-1].square().sum().backward()
        gradients.append(x.grad)
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()


@pytest.mark.parametrize('convert', [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
@torch.no_grad()
def test_copies(convert):
    network, x = build(), images()
    expected = network(x)
    network.switch_to_deploy()
    for out, same in zip(convert(network)(x), expected, strict=True):
        torch.testing.assert_close(out, same, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_half_precision_afterwards():
    network, x = build(), images()
    expected = network(x)[-1]
    network.switch_to_deploy()
    out = network.bfloat16()(x.bfloat16())[-1].float()
    assert (out - expected).norm() < 0.2 * expected.norm()  # other channels may be selected


def test_standardised_convolutions_keep_their_norms():
    """Their weights are scaled anew at every call, which would undo the fold."""
    network = build(conv_cfg=dict(type='ConvWS'), norm_cfg=BN, norm_eval=False)
    check(network, images())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_norms_without_statistics_stay():
    norm_cfg = dict(type='BN', track_running_stats=False)
    check(build(norm_cfg=norm_cfg, norm_eval=False), images())


def test_the_skip_bound_is_deployed_as_well():
    network = build(skip_bound=True)
    assert not any(isinstance(module, MoDBlock) for module in network.modules())
    check(network, images())


def test_a_whole_model():
    model = nn.ModuleDict({'backbone': build(), 'other': build('vgg')})
    switch_to_deploy(model)
    assert all(network.deploy for network in model.values())
    with pytest.raises(ValueError, match=r'^Linear has no MoD backbone to switch to deploy; .*$'):
        switch_to_deploy(nn.Linear(2, 2))


@pytest.fixture
def said(monkeypatch):
    """What is logged, each line once."""
    log_once.cache_clear()
    lines = []
    monkeypatch.setattr(deployed_block, 'print_log', lambda line, **kwargs: lines.append(line))
    yield lines
    log_once.cache_clear()


def test_options_that_were_removed(said):
    defaults = dict(last_activation='before', order='score', zero_init=False, backend=None)
    build(**defaults)
    build(**defaults)
    assert len(said) == len(defaults)
    for line, option in zip(said, sorted(defaults), strict=True):
        assert f'the option {option} was removed in 0.2.0 and is ignored' in line
    for option, value in [('backend', 'native'), ('zero_init', True), ('order', 'index'),
                          ('last_activation', 'after')]:  # fmt: skip
        with pytest.raises(UserError, match=rf'^[^\n]*{option}={value!r} was removed in 0.2.0; .'):
            build(**{option: value})
    with pytest.raises(UserError, match='switch_to_deploy'):
        build(backend='eager')


def test_the_variable_that_was_removed(said, monkeypatch):
    monkeypatch.setenv('MMCNNMOD_BACKEND', 'native')
    build()
    build()
    assert [line.split()[0] for line in said] == ['MMCNNMOD_BACKEND']


LOOKERS = {
    'mod_blocks': mod_blocks,
    'skip_bound': skip_bound,
    'ptflops': lambda network: count_by_ptflops(network, (32, 32)),
    'mmengine': lambda network: count_by_mmengine(network, (32, 32)),
}


@pytest.mark.parametrize('name', LOOKERS)
def test_who_looks_into_mod_blocks_refuses_the_deployed_network(name):
    network = build()
    network.switch_to_deploy()
    with pytest.raises(UserError, match=r'^[^\n]*ResNetMoD was switched to deploy[^\n]*$'):
        LOOKERS[name](network)
