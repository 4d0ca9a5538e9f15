"""The committed model index is up to date, and the tool finds and updates stale entries."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from ..conftest import ROOT

TOOL = ROOT / '.dev_scripts/write_metafile.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('write_metafile', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, monkeypatch, tmp_path, capsys):
    """Run the tool on copies of the files; returns its exit code and its output."""
    copies = {box: Path(shutil.copy2(path, tmp_path)) for box, path in tool.METAFILES.items()}
    monkeypatch.setattr(tool, 'METAFILES', copies)

    def run(*options):
        monkeypatch.setattr(sys, 'argv', ['write_metafile.py', *map(str, options)])
        try:
            tool.main()
        except SystemExit as end:
            return end.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    run.copies = copies
    return run


@pytest.mark.parametrize(
    ('toolbox', 'name', 'collection', 'data', 'architecture'),
    [
        ('mmpretrain', 'mobilenet-v2-mod_in1k', 'CNN-MoD', 'ImageNet-1k', 'MobileNetV2'),
        ('mmpretrain', 'vgg16-bn_cifar100', 'CNN-MoD-Baseline', 'CIFAR-100', 'VGG'),
        ('mmseg', 'fcn_r18-mod_street-scenes', 'CNN-MoD', 'Generated street scenes', 'FCN'),
        ('mmdet', 'faster-rcnn_r18-mod_fpn_bccd', 'CNN-MoD', 'BCCD', 'Faster R-CNN'),
    ],
)
def test_committed_entries_are_up_to_date(tool, toolbox, name, collection, data, architecture):
    pytest.importorskip(toolbox)
    entry = tool.make_entry(ROOT / f'configs/{name}.py')
    assert entry == tool.read_entries()[name]
    assert entry['In Collection'] == collection
    assert entry['Metadata']['Training Data'] == data
    assert architecture in entry['Metadata']['Architecture']
    assert ('Mixture-of-Depths' in entry['Metadata']['Architecture']) is ('-mod' in name)


def read(files):
    return {name: yaml.safe_load(path.read_text()) for name, path in files.items()}


def test_stale_entries_are_listed_and_updated(run):
    pytest.importorskip('mmpretrain')
    name = 'vgg16-bn-mod_cifar10'
    config = ROOT / f'configs/{name}.py'
    copy = run.copies['mmpretrain']
    before = read(run.copies)
    assert run(config, '--check') == (0, '')

    content = yaml.safe_load(copy.read_text())
    (entry,) = [entry for entry in content['Models'] if entry['Name'] == name]
    entry['Metadata']['Parameters'] += 1
    content['Models'].append({**entry, 'Name': 'gone_in1k'})
    copy.write_text(yaml.safe_dump(content))
    changed = copy.read_text()
    code, printed = run(config, '--check')
    assert 'write_metafile.py' in code
    assert printed.splitlines() == ['gone_in1k is stale', f'{name} is stale']
    assert copy.read_text() == changed

    assert run(config)[0] == 0
    # The header names the version of the counter, which differs between the stacks.
    assert read(run.copies) == before


def test_config_outside_the_project_is_an_error(run):
    before = read(run.copies)
    code, _ = run('elsewhere/x_in1k.py')
    assert code == 1
    assert read(run.copies) == before
