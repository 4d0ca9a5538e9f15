"""Classifiers are found by name in mmpretrain's hub, by its inferencers and by MIM."""

import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.registry import DefaultScope

from mmcnnmod.layers import MoDBlock

mmpretrain = pytest.importorskip('mmpretrain')
from mmcnnmod.toolboxes import model_hub  # noqa: E402  (needs mmpretrain)

ROOT = Path(__file__).resolve().parents[2]
METAFILE = ROOT / model_hub.METAFILE
ENTRIES = {entry['Name']: entry for entry in yaml.safe_load(METAFILE.read_text())['Models']}
SMALL = 'vgg16-bn-mod_cifar10'
register = model_hub.register_models.__wrapped__  # without the cache


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """mmpretrain's hub without models, and a package folder without configs."""
    monkeypatch.setattr(mmpretrain.ModelHub, '_models_dict', {})
    monkeypatch.setattr(mmpretrain.ModelHub, '_ModelHub__mmpretrain_registered', True)
    monkeypatch.setattr(model_hub, 'PACKAGE', tmp_path / 'mmcnnmod')
    return mmpretrain.ModelHub


@pytest.mark.smoke
def test_paper_models_are_listed():
    listed = mmpretrain.list_models('*mod*')
    assert listed == sorted(name for name in ENTRIES if '-mod' in name)
    assert {'resnet75-mod_in1k', 'mobilenet-v2-mod_in1k', 'convnext-tiny-mod_in1k'} <= set(listed)
    assert mmpretrain.list_models('*mod*', task='Image Classification') == listed
    assert set(listed) <= set(mmpretrain.ImageClassificationInferencer.list_models())


def test_hub_has_the_names_of_mmpretrain_and_ours():
    assert mmpretrain.list_models('resnet50_8xb32_in1k')
    # The hub silently drops an entry whose name differs from another one only in case.
    root = Path(mmpretrain.__file__).parent / '.mim'
    index = yaml.safe_load((root / 'model-index.yml').read_text())['Import']
    theirs = [m for path in index for m in yaml.safe_load((root / path).read_text())['Models']]
    assert len(theirs) > 300
    assert not {model['Name'].lower() for model in theirs} & set(ENTRIES)
    assert set(ENTRIES) <= set(mmpretrain.list_models())


@pytest.mark.parametrize('name', ['resnet75-mod_in1k', SMALL])
def test_models_are_built_by_name(name):
    with warnings.catch_warnings():
        warnings.filterwarnings('error', 'Unable to find')  # pretrained=False asks for no weights
        model = mmpretrain.get_model(name, pretrained=False)
    assert any(isinstance(module, MoDBlock) for module in model.modules())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == ENTRIES[name]['Metadata']['Parameters']
    with torch.no_grad():
        scores = model(torch.rand(2, 3, 32, 32))
    assert scores.shape == (2, 1000 if name.endswith('_in1k') else 10)
    assert scores.isfinite().all()


def test_missing_weights_are_reported():
    with pytest.warns(UserWarning, match='Unable to find pre-defined checkpoint'):
        mmpretrain.get_model(SMALL, pretrained=True)


def test_inferencers_accept_the_names():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with DefaultScope.overwrite_default_scope('mmpretrain'):  # other tests may have changed it
        inferencer = mmpretrain.ImageClassificationInferencer(SMALL, pretrained=False)
        (result,) = inferencer(image)
        assert result['pred_class'] in inferencer.classes
        assert len(inferencer.classes) == 10
        # inference_model selects the inferencer by the task in the model index.
        result = mmpretrain.inference_model(SMALL, image, pretrained=False)
        assert result['pred_scores'].shape == (10,)


@pytest.mark.parametrize('folder', ['mmcnnmod/.mim', '.'])
def test_configs_are_found_in_mim_and_next_to_the_package(hub, tmp_path, folder):
    shutil.copytree(ROOT / 'configs', tmp_path / folder / 'configs')
    register()
    assert set(hub._models_dict) == set(ENTRIES)
    for name in ENTRIES:
        assert hub._models_dict[name].config == str(tmp_path / folder / f'configs/{name}.py')
    assert hub.get('resnet75-mod_in1k').config.model.backbone.depth == 75


def test_registering_twice_changes_nothing(caplog):
    before = dict(mmpretrain.ModelHub._models_dict)
    model_hub.register_models()
    assert mmpretrain.ModelHub._models_dict == before
    assert not caplog.records


@pytest.mark.parametrize(
    'text', [None, '', 'no index', 'Models: [', 'Models: [{Config: x.py}]', '[1]', '\0']
)
def test_missing_or_damaged_file_gives_one_warning(hub, caplog, text):
    path = model_hub.PACKAGE / '.mim' / model_hub.METAFILE
    if text is not None:
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with caplog.at_level(logging.WARNING):
        register()
    (record,) = caplog.records
    assert f'{path} does not load (' in record.getMessage()
    assert 'install mmcnnmod again' in record.getMessage()
    assert '\n' not in record.getMessage()


def test_installed_package_has_the_names(run_python, tmp_path):
    """With the layout of `pip install .`, outside the source tree; reloading changes nothing."""
    package = tmp_path / 'mmcnnmod'
    shutil.copytree(
        ROOT / 'mmcnnmod', package, ignore=shutil.ignore_patterns('.mim', '__pycache__')
    )
    shutil.copytree(ROOT / 'configs', package / '.mim/configs')
    code = f"""if True:
        import importlib, sys
        sys.modules.update(mmseg=None, mmdet=None)
        import mmcnnmod, mmpretrain
        assert mmcnnmod.__file__.startswith({str(tmp_path)!r}), mmcnnmod.__file__
        importlib.reload(mmcnnmod)
        importlib.reload(mmcnnmod.toolboxes)
        model = mmpretrain.get_model({SMALL!r})
        assert model._config.filename.startswith({str(package)!r}), model._config.filename
        """
    result = run_python('-c', code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert 'mmcnnmod:' not in result.stderr


def test_mim_finds_all_models(monkeypatch):
    search = pytest.importorskip('mim.commands.search')
    # Use the source tree, which has model-index.yml and configs/, as the installed package.
    monkeypatch.setattr(search, 'is_installed', lambda package: package == 'mmcnnmod')
    monkeypatch.setattr(search, 'get_installed_path', lambda package: str(ROOT))
    found = search.get_model_info('mmcnnmod', to_dict=True)
    assert sorted(found) == sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
    assert all((ROOT / info['config']).is_file() for info in found.values())
    wanted = dict(models=['cnn-mod'], training_datasets=['cityscapes'])
    wanted = search.get_model_info('mmcnnmod', **wanted, to_dict=True)
    assert sorted(wanted) == [f'fcn_r{depth}-mod_cityscapes' for depth in (50, 75, 86)]
    small = search.get_model_info('mmcnnmod', filter_conditions='parameters<3000000', to_dict=True)
    assert 'mobilenet-v2-mod_in1k' in small
    assert 'mobilenet-v2_in1k' not in small
