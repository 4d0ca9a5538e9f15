"""The Python code in the docs runs unchanged."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmcnnmod.deploy.exported_file import BATCH, Export
from mmcnnmod.deploy.formats import FORMATS
from mmcnnmod.deploy.parts import folded, part_of
from mmcnnmod.layers import MoDBlock
from mmcnnmod.toolboxes import MINIMUM_VERSIONS

from .pages import PAGES, ROOT, blocks

FAMILY_PAGE = 'docs/adding_a_family.md'
DEPLOYMENT_PAGE = 'docs/deployment.md'
PACKAGED_BASE = re.compile(r"^_base_ = '(\w+)::", re.MULTILINE)
LOCAL_BASE = re.compile(r"(?<=^_base_ = ')\./(.+)(?='$)", re.MULTILINE)
SCOPE = re.compile(r"^default_scope = '(\w+)'", re.MULTILINE)


def is_config(code):
    """Whether a snippet is a config."""
    return any(pattern.search(code) for pattern in (PACKAGED_BASE, LOCAL_BASE, SCOPE))


def upstream(name):
    """The path of a toolbox's config with this file name."""
    packages = filter(None, map(importlib.util.find_spec, MINIMUM_VERSIONS))
    folders = [Path(package.origin).parent / '.mim/configs' for package in packages]
    found = [path for folder in folders for path in folder.rglob(name)]
    if not found:
        pytest.skip(f'{name}: its toolbox is not installed')
    return str(found[0])


SNIPPETS = [(page, code) for page in PAGES for code in blocks(page, 'python')]
CONFIGS = [pytest.param(code, id=page) for page, code in SNIPPETS if is_config(code)]
OWN_TEST = (FAMILY_PAGE, DEPLOYMENT_PAGE)
PROGRAMS = [page for page in PAGES if blocks(page, 'python') and page not in OWN_TEST]


@pytest.mark.parametrize('code', CONFIGS)
def test_configs(code, tmp_path):
    """The models of configs are built with the toolbox's own base and have MoD blocks."""
    toolbox = PACKAGED_BASE.search(code) or SCOPE.search(code)
    if toolbox:
        pytest.importorskip(toolbox[1])
    path = tmp_path / 'config.py'
    path.write_text(LOCAL_BASE.sub(lambda base: upstream(base[1]), code))
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    assert any(isinstance(module, MoDBlock) for module in model.modules())


@pytest.mark.parametrize('page', PROGRAMS)
def test_programs(page, tmp_path, monkeypatch):
    """The other snippets of a page run one after the other in the same session."""
    pytest.importorskip('mmdet')
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), 'CHECKPOINT')
    names = {}
    for code in blocks(page, 'python'):
        if not is_config(code):
            exec(compile(code, page, 'exec'), names)


def test_snippets_run_exported_networks(tmp_path, monkeypatch):
    """All runtimes return the same scores."""
    for package in ('onnx', 'onnxruntime', 'openvino', 'mmpretrain'):
        pytest.importorskip(package)
    if not hasattr(torch.export, 'Dim'):
        pytest.skip(f'torch {torch.__version__} does not export other batches')
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(ROOT / 'configs/resnet18-mod_cifar10.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).eval()
    part, notes = folded(part_of(model, 'model')), dict(what='model', config='', normalized='yes')
    for name in ('onnx', 'openvino', 'torchscript', 'torch-export'):
        export = Export(part, torch.zeros(2, 3, 64, 64), (BATCH,), 8, notes)
        FORMATS[name].write(export, Path(f'network{FORMATS[name].suffix}'))
    names, scores = {}, []
    for code in blocks(DEPLOYMENT_PAGE, 'python'):
        for lines in re.split(r'\n(?=scores = torch.jit)', code):
            exec(compile(lines, DEPLOYMENT_PAGE, 'exec'), names)
            scores.append(torch.as_tensor(names['scores']))
    assert len(scores) == 4
    for each in scores:
        torch.testing.assert_close(each, part(torch.zeros(1, 3, 64, 64))[0])


def test_example_of_a_new_family_trains():
    mmpretrain = pytest.importorskip('mmpretrain.registry')
    definition, config = blocks(FAMILY_PAGE, 'python')
    names = {}
    try:
        exec(definition, names)
        exec(config, names)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            network = mmpretrain.MODELS.build(names['model']['backbone'])
    finally:
        mmpretrain.MODELS.module_dict.pop('RegNetMoD', None)
    stages = [[network.get_submodule(n) for n in stage] for stage in network.blocks_of_stages()]
    kinds = [[isinstance(block, MoDBlock) for block in stage] for stage in stages]
    assert kinds == [[i % 2 == 1 for i in range(n)] for n in network.stage_blocks]
    mod_blocks = [block for stage in stages for block in stage if isinstance(block, MoDBlock)]
    assert {block.c for block in mod_blocks} == {32}

    torch.manual_seed(0)
    network.init_weights()
    network.train()
    # With images of different colours, every hidden unit of a selector is active for some image.
    (out,) = network(torch.rand(4, 3, 64, 64) + torch.randn(4, 3, 1, 1))
    assert out.shape == (4, network.stage_widths[-1], 2, 2)
    (out * torch.randn_like(out)).mean().backward()
    assert all(block.selector.fc2.weight.grad.any() for block in mod_blocks)


def test_regnets_narrow_blocks_need_no_groups():
    regnet = pytest.importorskip('mmpretrain.models.backbones').RegNet
    for arch in regnet.arch_settings:
        network = regnet(arch)
        pairs = zip(network.stage_widths, network.group_widths, strict=True)
        assert all(width // network.stem_channels < 2 * group for width, group in pairs), arch


@pytest.mark.parametrize('code', [code for page in PAGES for code in blocks(page, 'yaml')])
def test_plans(code, tmp_path, monkeypatch):
    """Plans can be read next to the project's own configs, and their arms can be built."""
    pytest.importorskip('mmpretrain')
    monkeypatch.syspath_prepend(str(ROOT / 'tools/experiments'))
    read_plan = importlib.import_module('plan').read_plan
    for config in (ROOT / 'configs/experiments').glob('*.py'):
        (tmp_path / config.name).write_text(f"_base_ = '{config}'\n")
    (tmp_path / 'plan.yml').write_text(code)
    for arm in read_plan(tmp_path / 'plan.yml').arms.values():
        cfg = Config.fromfile(arm.config)
        cfg.merge_from_dict(dict(arm.overrides))
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            MODELS.build(cfg.model)
