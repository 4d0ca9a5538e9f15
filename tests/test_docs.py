"""The code in docs/ runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

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
