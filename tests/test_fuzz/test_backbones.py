"""Every MoD backbone with any arguments: MoD blocks as in the reference, errors in one line."""

import importlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcnnmod.layers import MoDBlock

from ..utils.blocks import randomize_norms
from ..utils.drawing import (
    CHOICES,
    LAYOUTS,
    check_message,
    drawn,
    feature_map,
    is_count,
    share,
    with_wrong_values,
    wrong_choices,
)
from ..utils.reference import check_block, has_clear_order

BN = dict(type='BN')
WIDTHS = st.sampled_from([4, 8, 12, 16])
CONV_CFGS = st.sampled_from([None, dict(type='Conv2d'), dict(type='ConvWS')])
NORM_CFGS = st.sampled_from(
    [BN, dict(type='GN', num_groups=4), dict(type='BN', requires_grad=False, eps=1e-3)]
)
FROZEN = st.integers(-1, 4)
# The options of every MoD backbone.
MOD = {
    'c': st.none() | st.sampled_from([1, 2, 3, 4, 4, 8, 4096]),
    'r': st.sampled_from([1, 2, 3, 4, 4, 4096]),
    **{name: st.sampled_from(words) for name, words in CHOICES.items()},
    'mod_stages': st.none() | st.lists(st.integers(0, 7), min_size=1, max_size=3),
    'skip_bound': st.booleans(),
}
RESNET = {
    'in_channels': st.just(3),
    'style': st.sampled_from(['pytorch', 'caffe']),
    'frozen_stages': FROZEN,
    'conv_cfg': CONV_CFGS,
    'norm_cfg': NORM_CFGS,
    'norm_eval': st.booleans(),
    'with_cp': st.booleans(),
    'zero_init_residual': st.booleans(),
}
OF_A_TOOLBOX = {
    'mmpretrain': {
        'drop_path_rate': st.sampled_from([0.0, 0.3]),
        'expansion': st.sampled_from([None, 1, 2, 4]),
    },
    'mmseg': {
        'contract_dilation': st.booleans(),
        'multi_grid': st.sampled_from([None, (1, 2), (1, 2, 4)]),
    },
    'mmdet': {},
}
MOBILENET = {
    'widen_factor': st.sampled_from([0.1, 0.25, 0.5]),
    'frozen_stages': FROZEN,
    'conv_cfg': CONV_CFGS,
    'norm_cfg': NORM_CFGS,
    'act_cfg': st.sampled_from([dict(type='ReLU6'), dict(type='ReLU')]),
    'norm_eval': st.booleans(),
    'with_cp': st.booleans(),
    'out_indices': st.lists(st.integers(0, 6), min_size=1, max_size=3).map(sorted),
}
VGG = {
    'frozen_stages': FROZEN,
    'conv_cfg': CONV_CFGS,
    'norm_cfg': st.none() | NORM_CFGS,
    'norm_eval': st.booleans(),
    'ceil_mode': st.booleans(),
    'with_last_pool': st.booleans(),
}
CONVNEXT = {
    'stem_patch_size': st.sampled_from([2, 4]),
    'norm_cfg': st.sampled_from([dict(type='LN2d', eps=1e-6), dict(type='LN2d', eps=1e-3)]),
    'act_cfg': st.sampled_from([dict(type='GELU'), dict(type='ReLU')]),
    'linear_pw_conv': st.booleans(),
    'use_grn': st.booleans(),
    'drop_path_rate': st.sampled_from([0.0, 0.3]),
    'layer_scale_init_value': st.sampled_from([0.0, 1e-6, 0.5]),
    'frozen_stages': FROZEN,
    'gap_before_final_norm': st.booleans(),
    'with_cp': st.booleans(),
}


@st.composite
def resnets(draw, toolbox, name):
    """Arguments of a ResNet; the number of strides and dilations is that of the stages."""
    stages = draw(st.integers(1, 4))
    each = st.lists(st.sampled_from([1, 2]), min_size=stages, max_size=stages)
    options = {
        'num_stages': st.just(stages),
        'strides': each.map(tuple),
        'dilations': each.map(tuple),
        'out_indices': st.lists(st.integers(0, stages - 1), min_size=1, unique=True).map(tuple),
        'depth': st.sampled_from([18, 26, 34, 50, 75]),
        'base_channels': WIDTHS,
        'stem_channels': WIDTHS,
        **RESNET,
        **OF_A_TOOLBOX[toolbox],
    }
    if name == 'ResNetMoD':  # the others are defined by these two
        options.update(deep_stem=st.booleans(), avg_down=st.booleans())
    required = ['depth', 'base_channels', 'stem_channels']
    if stages < 4:
        required += ['num_stages', 'strides', 'dilations', 'out_indices']
    return {k: draw(v) for k, v in options.items() if k in required or draw(st.booleans())}


@st.composite
def vggs(draw):
    """Arguments of a VGG with at most three stages, because the others are wide."""
    stages = draw(st.integers(1, 3))
    return {
        'depth': draw(st.sampled_from([11, 13, 16, 19])),
        'num_stages': stages,
        'dilations': tuple(draw(st.sampled_from([1, 2])) for _ in range(stages)),
        'out_indices': (draw(st.integers(0, stages - 1)),),
        **{k: draw(v) for k, v in VGG.items() if draw(st.booleans())},
    }


@st.composite
def convnexts(draw):
    """Arguments of a ConvNeXt of one to four stages."""
    stages = draw(st.integers(1, 4))
    depths = draw(st.lists(st.integers(1, 3), min_size=stages, max_size=stages))
    channels = draw(st.lists(st.sampled_from([4, 6, 8]), min_size=stages, max_size=stages))
    return {
        'arch': dict(depths=depths, channels=channels),
        'out_indices': [draw(st.integers(0, stages - 1))],
        **{k: draw(v) for k, v in CONVNEXT.items() if draw(st.booleans())},
    }


@st.composite
def mobilenets(draw, toolbox):
    """Arguments of a MobileNetV2."""
    options = dict(MOBILENET)
    if toolbox == 'mmseg':
        each = st.lists(st.sampled_from([1, 2]), min_size=7, max_size=7).map(tuple)
        options.update(strides=each, dilations=each)
    return {k: draw(v) for k, v in options.items() if k == 'widen_factor' or draw(st.booleans())}


RESNETS = ('ResNetMoD', 'ResNetV1cMoD', 'ResNetV1dMoD', 'ResNetMoD_CIFAR')
REGISTERED = {
    'mmpretrain': (*RESNETS, 'MobileNetV2MoD', 'VGGMoD', 'ConvNeXtMoD'),
    'mmseg': (*RESNETS[:3], 'MobileNetV2MoD'),
    'mmdet': ('ResNetMoD', 'ResNetV1dMoD', 'MobileNetV2MoD'),
}
CASES = [(toolbox, name) for toolbox, names in REGISTERED.items() for name in names]


def strategy_of(toolbox, name):
    kinds = {'VGGMoD': vggs, 'ConvNeXtMoD': convnexts}
    if name in kinds:
        return kinds[name]()
    return mobilenets(toolbox) if name == 'MobileNetV2MoD' else resnets(toolbox, name)


@pytest.fixture(params=CASES, ids='-'.join)
def case(request):
    """An MoD class, the dense one, and how to draw the dense one's arguments."""
    toolbox, name = request.param
    pytest.importorskip(toolbox)
    mod = getattr(importlib.import_module(f'mmcnnmod.toolboxes.{toolbox}'), name)
    dense = mod.__bases__[-1]
    if name in RESNETS:  # with the paper's depths
        dense = type(dense.__name__, (dense,), {'arch_settings': mod.arch_settings})
    return mod, dense, strategy_of(toolbox, name)


def test_all_registered_backbones_are_tested(toolbox, backbones):
    classes = [
        name
        for name, value in vars(backbones).items()
        if isinstance(value, type) and value.__module__ == backbones.__name__
    ]
    assert sorted(classes) == sorted(REGISTERED[toolbox])


def run(cls, arguments, x):
    """A network in eval mode, its outputs, and for each block its input and output."""
    torch.manual_seed(0)
    network = cls(**arguments)
    network.train()
    network.eval()
    network.to(x.dtype)
    randomize_norms(network)
    seen, selections = {}, {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _, inputs, out, name=name: seen.update({name: (inputs, out)})
        )
        if isinstance(module, MoDBlock):
            module.selector.register_forward_hook(
                lambda _, inputs, out, name=name: selections.update({name: out[0]})
            )
    with torch.no_grad():
        outs = network(x)
    return network, outs, seen, selections


def attempt(*arguments):
    try:
        return run(*arguments), None
    except Exception as problem:
        return None, problem


def bad_options(options):
    """The MoD options that are wrong in any network."""
    bad = wrong_choices(options)
    bad += [name for name in ('c', 'r') if name in options and not is_count(options[name], 10**99)]
    if options.get('c', 1) is None:
        bad.remove('c')
    stages = options.get('mod_stages')
    if stages is not None and not is_stages(stages):
        bad.append('mod_stages')
    switch = options.get('skip_bound', True)
    if not (isinstance(switch, (bool, int, float)) and switch in (0, 1)):
        bad.append('skip_bound')
    return bad


def is_stages(stages):
    return (
        isinstance(stages, (list, tuple, set, range))
        and len(stages) > 0
        and all(type(stage) is int and stage in range(8) for stage in stages)
    )


WORDS = {'mod_stages': ('stages must', 'unknown stage')}


@share(0.4 / len(CASES))
@given(st.data())
def test_blocks_match_the_reference(case, data):
    mod, dense, strategy = case
    arguments = data.draw(strategy, 'arguments')
    options = {'r': 4, **drawn(data, MOD)}
    kind = data.draw(st.sampled_from(['right', 'right', 'wrong option', 'wrong argument']), 'kind')
    if kind == 'wrong option':
        options = with_wrong_values(data, options, MOD)
    elif kind == 'wrong argument':
        arguments = with_wrong_values(data, arguments, arguments)
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), 'dtype')
    size = data.draw(st.sampled_from([(32, 32), (33, 40), (64, 32)]), 'size')
    layout = data.draw(st.sampled_from(LAYOUTS), 'layout')
    x = feature_map((data.draw(st.integers(1, 2), 'n'), 3, *size), dtype, layout, seed=0)

    expected, refusal = attempt(dense, arguments, x)
    result, problem = attempt(mod, {**arguments, **options}, x)
    bad = bad_options(options)
    if problem is not None:
        if refusal is not None and type(problem) is type(refusal):
            return
        assert isinstance(problem, ValueError), repr(problem)
        check_message(problem)
        if refusal is None:
            check_reason(str(problem), bad, options, arguments)
        return
    assert not bad
    assert refusal is None, refusal
    check_network(result, expected, options)
    check_deployed(result, x)


def check_reason(message, bad, options, arguments):
    """The message names a wrong option, or explains why the options do not fit this network."""
    words = [word for name in bad for word in WORDS.get(name, (f'{name} ', f'{name}='))]
    if any(word in message for word in words):
        return
    if 'positive integer' in message:  # a width, from which c comes; 0 makes an empty dense network
        widths = [arguments.get(name) for name in ('base_channels', 'stem_channels')]
        assert any(not is_count(width, 99) for width in widths), message
    elif 'larger than the width' in message:
        width = int(message.split('(width ')[1].split(',')[0])
        value = int(message.split(' is larger')[0].rsplit('=', 1)[1])
        assert value > width
    elif 'stochastic depth' in message:
        assert options['fusion'] == 'replace'
        assert arguments['drop_path_rate'] > 0
    elif 'stage' in message:
        assert options.get('mod_stages')
        assert 'was chosen, but none of its' in message or 'unknown stage' in message, message
    else:  # torch's, see `fit_groups` and `convnext_block`
        assert 'Expected more than 1 value per channel' in message, message
        assert 'arch' in arguments or arguments['norm_cfg']['type'] == 'GN'


def check_network(result, expected, options):
    """MoD blocks are where the placement rule puts them, and match the reference."""
    network, outs, seen, selections = result
    _, dense_outs, dense_seen, _ = expected
    assert shapes(outs) == shapes(dense_outs)
    stages = options.get('mod_stages')
    for stage, names in enumerate(network.blocks_of_stages()):
        for i, name in enumerate(names):
            if name not in dense_seen:  # after the last of out_indices
                continue
            (given,), out = dense_seen[name]
            keeps = given.shape == out.shape
            is_selected = i % 2 == 1 or options.get('placement') == 'every'
            is_mod = keeps and is_selected and (stages is None or stage in stages)
            block = network.get_submodule(name)
            kind = torch.nn.Identity if options.get('skip_bound') else MoDBlock
            assert isinstance(block, kind) is is_mod, name
            if isinstance(block, MoDBlock):
                (given,), out = seen[name]
                if is_moderate(given):
                    check_block(block, given, selections[name], out)


def is_moderate(x):
    """Whether nothing is about to overflow: with random norms, maps grow from block to block."""
    return bool((x.abs() < 1e25).all())


def shapes(outs):
    return [tuple(out.shape) for out in outs]


def check_deployed(result, x):
    """The deployed network has the same outputs if rounding cannot change a selection."""
    network, outs, seen, _ = result
    blocks = {n: m for n, m in network.named_modules() if isinstance(m, MoDBlock) and n in seen}
    clear = all(has_clear_order(block, seen[name][0][0]) for name, block in blocks.items())
    if (
        x.dtype == torch.bfloat16
        or not clear
        or not all(is_moderate(out) for out in outs)
        or not all(hasattr(b.selector, 'fc1') for b in blocks.values())
    ):
        return
    for module in network.modules():
        module._forward_hooks.clear()
    network.switch_to_deploy()
    with torch.no_grad():
        deployed = network(x)
    for out, expected in zip(deployed, outs, strict=True):
        error = (out.double() - expected.double()).norm()
        assert error <= (1e-9 if x.dtype == torch.float64 else 1e-3) * expected.double().norm()
