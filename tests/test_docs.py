"""The code in docs/ runs as it stands there."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from mmengine.registry import HOOKS

from mmcnnmod.checkpoints.block_mapping import MAPPINGS
from mmcnnmod.cli import dense_to_mod
from mmcnnmod.layers import MoDBlock

DOCS = Path(__file__).resolve().parents[1] / 'docs'


def python_blocks(name):
    """The Python blocks of a page, in order."""
    return re.findall(r'```python\n(.*?)```', (DOCS / name).read_text(), re.DOTALL)


def test_the_worked_example_of_a_new_family():
    mmpretrain = pytest.importorskip('mmpretrain.registry')
    definition, config = python_blocks('adding_a_family.md')
    names = {}
    try:
        exec(definition, names)
        exec(config, names)
        network = mmpretrain.MODELS.build(names['model']['backbone'])
    finally:
        mmpretrain.MODELS.module_dict.pop('RegNetMoD', None)
    stages = [[network.get_submodule(n) for n in stage] for stage in network.blocks_of_stages()]
    kinds = [[isinstance(block, MoDBlock) for block in stage] for stage in stages]
    assert kinds == [[i % 2 == 1 for i in range(n)] for n in network.stage_blocks]
    blocks = [block for stage in stages for block in stage if isinstance(block, MoDBlock)]
    assert {block.c for block in blocks} == {32}

    network.init_weights()
    network.train()
    (out,) = network(torch.rand(2, 3, 64, 64))
    assert out.shape == (2, network.stage_widths[-1], 2, 2)
    (out * torch.randn_like(out)).mean().backward()
    assert all(block.selector.fc2.weight.grad.any() for block in blocks)


def test_regnets_narrow_blocks_need_no_groups():
    regnet = pytest.importorskip('mmpretrain.models.backbones').RegNet
    for arch in regnet.arch_settings:
        network = regnet(arch)
        pairs = zip(network.stage_widths, network.group_widths, strict=True)
        assert all(width // network.stem_channels < 2 * group for width, group in pairs), arch


def test_the_warm_start(tmp_path):
    """The page's config with a checkpoint from here, its hook, mappings and commands."""
    backbones = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    config, hook = python_blocks('warm_start.md')
    names = {}
    exec(config, names)
    exec(hook, names)
    assert HOOKS.build(names['custom_hooks'][0]).batches == 50

    settings = names['model']['backbone']
    dense = backbones.ResNet(settings['depth'], base_channels=16, stem_channels=16)
    torch.save(dense.state_dict(), tmp_path / 'a.pth')
    settings['init_cfg']['checkpoint'] = str(tmp_path / 'a.pth')
    network = backbones.MODELS.build(dict(settings, base_channels=16, stem_channels=16))
    network.init_weights()
    assert torch.equal(network.layer1[0].conv1.weight, dense.layer1[0].conv1.weight)

    page = (DOCS / 'warm_start.md').read_text()
    stages_50 = [range(0, n, 2) for n in (3, 4, 6, 3)]
    for name, mapping in MAPPINGS.items():
        shown = [
            ' '.join(map(str, mapping(places, n)))
            for places, n in zip(stages_50, (3, 4, 6, 3), strict=True)
        ]
        longer = ' '.join(map(str, mapping(range(0, 14, 2), 6)))
        assert f"| `'{name}'` | {', '.join(shown)} | {longer} |" in page
    for command in shell_commands('warm_start.md'):
        program, *words = command[1:]
        if program.endswith('dense_to_mod.py'):
            args = dense_to_mod.dense_to_mod_parser().parse_args(words)
            assert args.calibrate == 50
        else:
            assert (DOCS.parent / program).is_file()


def shell_commands(name):
    """The commands on a page, as lists of words."""
    blocks = re.findall(r'```shell\n(.*?)```', (DOCS / name).read_text(), re.DOTALL)
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    return [shlex.split(line) for line in lines if line.strip()]
