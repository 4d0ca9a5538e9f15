"""channel_usage.py with classifiers, segmentors and detectors whose selections are known."""

import csv
import xml.etree.ElementTree as ElementTree
from collections import Counter

import channel_usage as tool
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image

from mmcnnmod.analysis import mod_blocks
from mmcnnmod.cli.config import load_config
from mmcnnmod.cli.model import build_model

from ...utils.tasks import ROOT, TASKS, shrink, tail

FOLDERS = ROOT / 'configs/resnet18-mod_cifar10-folder.py'
# The channels that a block of 256 channels selects for dark and for bright images.
DARK, BRIGHT = [3, 8, 13, 21], [2, 8, 34, 55]
SINGLE = ['test_dataloader.num_workers=0', 'val_dataloader.num_workers=0']

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the tool in this process; returns {class: (images, {channel: times selected})}."""
    monkeypatch.chdir(tmp_path)

    def run(config, *options, block='layer3.1', out='out'):
        tool.main([str(part) for part in (config, 'model.pth', '--out-dir', out, *options)])
        with (tmp_path / out / f'channel_usage_{block}.csv').open() as file:
            rows = list(csv.DictReader(file))
        classes = dict.fromkeys(row['class'] for row in rows)
        for name in classes:
            own = [row for row in rows if row['class'] == name]
            percent = sum(float(row['percent_of_all_selections']) for row in own)
            assert percent == pytest.approx(100, abs=0.02)
            times = {int(row['channel']): int(row['times_selected']) for row in own}
            selected = {channel: count for channel, count in times.items() if count}
            classes[name] = int(own[0]['images']), selected
        return classes

    return run


def build(config, options):
    """Build the untrained model of a config."""
    options = ['--cfg-options', *options] if options else []
    cfg = load_config(tool.parse([str(config), 'model.pth', *options]))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return build_model(cfg, str(config))


@torch.no_grad()
def write_checkpoint(config, options=(), block='layer3.1', size=None):
    """Write model.pth, in which a block selects known channels.

    Args:
        config: The config of the network.
        options: Its --cfg-options.
        block: The name of the block.
        size: Height and width of the images; the block selects DARK for black and BRIGHT for white
            images of this size. None: it selects DARK for all images.
    """
    torch.manual_seed(0)
    model = build(config, options)
    selector = mod_blocks(model)[block].selector
    direction = torch.ones(selector.in_channels)
    if size:
        # The direction in which the pooled channels of a black image are at -1, of a white at 1.
        pooled = []
        hook = selector.pool.register_forward_hook(lambda *call: pooled.append(call[-1].flatten()))
        for value in (0, 255):
            image = torch.full((3, *size), value, dtype=torch.uint8)
            model.backbone(model.data_preprocessor(dict(inputs=[image]))['inputs'])
        hook.remove()
        direction = torch.linalg.pinv(torch.stack(pooled)) @ torch.tensor([-1.0, 1.0])
    for layer in (selector.fc1, selector.fc2):
        layer.weight.zero_()
    for unit, (sign, channels) in enumerate([(-1, DARK), (1, BRIGHT)] if size else [(1, DARK)]):
        selector.fc1.weight[unit] = sign * direction
        selector.fc2.weight[channels, unit] = torch.linspace(2, 1, len(channels))
    torch.save({'state_dict': model.state_dict()}, 'model.pth')


def times(count, channels):
    return dict.fromkeys(channels, count)


def write_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path):
    """Three black and two white images, in the folders of their classes."""
    pytest.importorskip('mmpretrain')
    for split in ('test', 'train'):
        for name, value, count in (('ink', 0, 3), ('snow', 255, 2)):
            for i in range(count):
                path = tmp_path / 'data' / split / name / f'{i}.png'
                write_image(path, np.full((32, 32, 3), value))
    return tmp_path / 'data'


@pytest.mark.smoke
@pytest.mark.parametrize('split', ['test', 'train'])
def test_classes_of_labelled_images(run, folders, split):
    write_checkpoint(FOLDERS, size=(32, 32))
    usage = run(FOLDERS, '--data', folders, '--split', split, '--cfg-options', *SINGLE)
    assert usage == {
        'all classes': (5, {**times(3, DARK), **times(2, BRIGHT), 8: 5}),
        'ink': (3, times(3, DARK)),
        'snow': (2, times(2, BRIGHT)),
    }
    with Image.open('out/channel_usage_layer3.1.png') as picture:
        assert picture.format == 'PNG'
        picture.load()


def test_options_classes_and_samples_per_class(run, folders):
    write_checkpoint(FOLDERS, size=(32, 32))
    options = ['--data', folders, '--classes', 'snow', '--samples-per-class', 1]
    usage = run(FOLDERS, *options, '--cfg-options', *SINGLE)
    assert usage == {
        'all classes': (2, {**times(1, DARK), **times(1, BRIGHT), 8: 2}),
        'snow': (1, times(1, BRIGHT)),
    }


@pytest.mark.smoke
def test_classes_in_label_maps(run, tmp_path):
    """An image counts for each class in its label map; 255 is no class."""
    pytest.importorskip('mmseg')
    road, car = 0, 13
    for name, value, labels in (('a', 0, [road, 255]), ('b', 255, [road, car])):
        write_image(
            tmp_path / f'data/leftImg8bit/val/{name}_leftImg8bit.png', np.full((32, 64, 3), value)
        )
        write_image(
            tmp_path / f'data/gtFine/val/{name}_gtFine_labelTrainIds.png',
            np.tile(np.repeat(labels, 32), (32, 1)),
        )
    config = ROOT / TASKS['mmseg'][0]
    write_checkpoint(config, shrink('mmseg'), size=(32, 64))
    usage = run(config, '--data', tmp_path / 'data', '--cfg-options', *shrink('mmseg'))
    both = {**times(1, DARK), **times(1, BRIGHT), 8: 2}
    assert usage == {
        'all classes': (2, both),
        'road': (2, both),
        'car': (1, times(1, BRIGHT)),
    }


@pytest.mark.smoke
def test_classes_of_boxes(run, data):
    pytest.importorskip('mmdet')
    config = ROOT / TASKS['mmdet'][0]
    write_checkpoint(config, shrink('mmdet'), block='layer2.1')
    expected = Counter()
    names = (data / 'voc/VOC2007/ImageSets/Main/val.txt').read_text().split()
    for name in names:
        tree = ElementTree.parse(data / f'voc/VOC2007/Annotations/{name}.xml')
        expected.update({node.text for node in tree.iterfind('object/name')})
    usage = run(
        config, '--data', data / 'voc', '--block', 'backbone.layer2.1', '--classes', *expected,
        '--cfg-options', *shrink('mmdet'), block='layer2.1',
    )  # fmt: skip
    expected['all classes'] = len(names)
    # 128 channels, of which 2 are selected.
    assert usage == {name: (count, times(count, DARK[:2])) for name, count in expected.items()}


def test_interrupted_count_is_kept(run, folders, monkeypatch):
    write_checkpoint(FOLDERS, size=(32, 32))

    def interrupted(loader, *_, **__):
        yield next(iter(loader))
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, 'track', lambda steps, title, **_: (
        interrupted(steps) if title == 'Counting' else steps
    ))  # fmt: skip
    options = ['test_dataloader.batch_size=2', 'val_dataloader.batch_size=2', *SINGLE]
    with pytest.raises(SystemExit, match='130'):
        run(FOLDERS, '--data', folders, '--cfg-options', *options)
    with open('out/channel_usage_layer3.1.csv') as file:
        rows = [row for row in csv.DictReader(file) if row['class'] == 'all classes']
    assert {row['images'] for row in rows} == {'2'}
    assert sum(int(row['times_selected']) for row in rows) == 2 * len(DARK)


@pytest.fixture
def error_of(fails, folders):
    """Run the tool with options that fail; returns the error line."""
    write_checkpoint(FOLDERS)

    def error_of(*options, data=folders):
        arguments = [FOLDERS, 'model.pth', '--out-dir', 'out', '--data', data, *options]
        line = fails(tool.main, *arguments)
        assert not list(folders.parent.glob('out/*'))
        return line

    return error_of


@pytest.mark.parametrize(
    ('backbone', 'name'),
    [
        (dict(type='ResNetMoD', depth=50), 'layer3.1'),
        (dict(type='ResNetMoD', depth=18, mod_stages=(1,)), 'layer2.1'),
        (dict(type='VGGMoD', depth=16), 'features.7'),
        (dict(type='ConvNeXtMoD', arch='tiny'), 'stages.2.1'),
    ],
)
def test_default_block_is_the_first_of_the_third_stage(backbone, name):
    registry = pytest.importorskip('mmpretrain.registry')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = torch.nn.ModuleDict({'backbone': registry.MODELS.build(backbone)})
    assert tool.choose_block(model, None) == (name, model.backbone.get_submodule(name))


def test_error_of_invalid_options(error_of):
    blocks = 'the MoD blocks are layer1.1, layer2.1, layer3.1, layer4.1'
    assert f'--block layer3.0: {blocks}' in error_of('--block', 'layer3.0')
    assert 'this data set has no class snwo; did you mean snow?' in error_of('--classes', 'snwo')
    assert '--samples-per-class 0: at least 1' in error_of('--samples-per-class', 0)
    assert 'nowhere does not exist' in error_of(data='nowhere')
    without = ['--cfg-options', 'val_dataloader=None']
    assert '--split val: the config has no such data' in error_of(*without)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.backbone.selection=random', 'layer3.1 selects at random'),
        ('model.backbone.type=ResNet_CIFAR', 'this network has no MoD block'),
    ],
)
def test_error_of_network_without_learned_selections(error_of, option, message):
    torch.save({'state_dict': build(FOLDERS, [option]).state_dict()}, 'model.pth')
    assert message in error_of('--cfg-options', option)


def test_error_of_checkpoint_that_does_not_fit(error_of):
    line = error_of('--cfg-options', 'model.backbone.depth=34')
    assert 'checkpoint model.pth does not fit this model' in line


def test_error_of_damaged_image(error_of, folders):
    path = folders / 'test/snow/0.png'
    path.write_bytes(path.read_bytes()[:-20])
    assert f'{path} cannot be read' in error_of('--cfg-options', *SINGLE)


def test_program(folders, run_python, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_checkpoint(FOLDERS)
    result = run_python(
        ROOT / 'tools/analysis_tools/channel_usage.py', FOLDERS, 'model.pth',
        '--data', folders, '--device', 'cpu', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert (
        'ink (3 images): 4 of 256 channels selected at least once, most often 3, 8, 13, 21'
        in result.stdout
    )
    assert len(list((tmp_path / 'work_dirs/resnet18-mod_cifar10-folder').iterdir())) == 2
