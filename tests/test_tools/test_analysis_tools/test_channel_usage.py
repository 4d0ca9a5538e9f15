"""Channel usage of classifiers, segmentors and detectors whose selectors were rigged."""

import csv
import xml.etree.ElementTree as ElementTree
from argparse import Namespace
from collections import Counter

import channel_usage as tool
import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mmcnnmod.analysis import mod_blocks
from mmcnnmod.cli.config import revert_sync_bn

from ...utils.tasks import ROOT, TASKS, shrink, tail

FOLDERS = ROOT / 'configs/resnet18-mod_cifar10-folder.py'
DARK, BRIGHT = [3, 8, 13, 21], [2, 8, 34, 55]  # what a rigged block of 256 channels selects
SINGLE = ['test_dataloader.num_workers=0', 'val_dataloader.num_workers=0']

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the tool in this process; gives images and {channel: times} for each class."""
    monkeypatch.chdir(tmp_path)

    def run(config, *options, block='layer3.1', out='out'):
        tool.main([str(part) for part in (config, 'rigged.pth', '--out-dir', out, *options)])
        with (tmp_path / out / f'channel_usage_{block}.csv').open() as file:
            rows = list(csv.DictReader(file))
        classes = dict.fromkeys(row['class'] for row in rows)
        for name in classes:
            mine = [row for row in rows if row['class'] == name]
            assert sum(float(row['percent_of_all_selections']) for row in mine) == pytest.approx(
                100, abs=0.02
            )
            times = {int(row['channel']): int(row['times_selected']) for row in mine}
            chosen = {channel: count for channel, count in times.items() if count}
            classes[name] = int(mine[0]['images']), chosen
        return classes

    return run


def build(config, options):
    """The model of a config, as it starts."""
    parsed = Namespace()
    if options:
        DictAction([], 'options')(None, parsed, list(options))
    cfg = Config.fromfile(str(config))
    cfg.merge_from_dict(vars(parsed).get('options', {}))
    cfg.launcher = 'none'
    revert_sync_bn(cfg)
    if cfg.get('data_preprocessor'):
        cfg.model.data_preprocessor = cfg.data_preprocessor
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model).eval()


@torch.no_grad()
def rig(config, options=(), block='layer3.1', size=None):
    """Write rigged.pth, whose block selects DARK channels, or with a size BRIGHT for bright images.

    Args:
        config: Of the network.
        options: Its --cfg-options.
        block: Which block to rig.
        size: Of the images, as (height, width).
    """
    torch.manual_seed(0)
    model = build(config, options)
    selector = mod_blocks(model)[block].selector
    direction = torch.ones(selector.in_channels)
    if size:
        # The direction along which a black image's pooled channels are at -1, a white one's at 1.
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
    torch.save({'state_dict': model.state_dict()}, 'rigged.pth')


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
def test_classes_of_images(run, folders, split):
    """By label."""
    rig(FOLDERS, size=(32, 32))
    usage = run(FOLDERS, '--data', folders, '--split', split, '--cfg-options', *SINGLE)
    assert usage == {
        'all classes': (5, {**times(3, DARK), **times(2, BRIGHT), 8: 5}),
        'ink': (3, times(3, DARK)),
        'snow': (2, times(2, BRIGHT)),
    }
    with Image.open('out/channel_usage_layer3.1.png') as picture:
        assert picture.format == 'PNG'
        picture.load()


def test_chosen_classes_and_number_of_images(run, folders):
    rig(FOLDERS, size=(32, 32))
    options = ['--data', folders, '--classes', 'snow', '--samples-per-class', 1]
    usage = run(FOLDERS, *options, '--cfg-options', *SINGLE)
    assert usage == {
        'all classes': (2, {**times(1, DARK), **times(1, BRIGHT), 8: 2}),
        'snow': (1, times(1, BRIGHT)),
    }


@pytest.mark.smoke
def test_classes_in_label_maps(run, tmp_path):
    """An image counts for every class that occurs in it; 255 is none."""
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
    rig(config, shrink('mmseg'), size=(32, 64))
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
    rig(config, shrink('mmdet'), block='layer2.1')
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


def test_an_interrupted_count_is_kept(run, folders, monkeypatch):
    rig(FOLDERS, size=(32, 32))

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
def fails(run, folders, capsys):
    """Run the tool in this process; gives the one line that it ended with."""
    rig(FOLDERS)

    def fails(*options, config=FOLDERS, data=folders):
        with pytest.raises(SystemExit) as end:
            run(config, '--data', data, *options)
        assert end.value.code == 1
        printed = capsys.readouterr().err
        assert 'Traceback' not in printed
        assert not list(folders.parent.glob('out/*'))
        (line,) = (line for line in printed.splitlines() if line.startswith('error: '))
        return line

    return fails


@pytest.mark.parametrize(
    ('backbone', 'name'),
    [
        (dict(type='ResNetMoD', depth=50), 'layer3.1'),
        (dict(type='ResNetMoD', depth=18, mod_stages=(1,)), 'layer2.1'),
        (dict(type='VGGMoD', depth=16), 'features.7'),
        (dict(type='ConvNeXtMoD', arch='tiny'), 'stages.2.1'),
    ],
)
def test_default_block(backbone, name):
    """The first of the third stage, in every family."""
    registry = pytest.importorskip('mmpretrain.registry')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = torch.nn.ModuleDict({'backbone': registry.MODELS.build(backbone)})
    assert tool.choose_block(model, None) == (name, model.backbone.get_submodule(name))


def test_mistakes_on_the_command_line(fails):
    blocks = 'the MoD blocks are layer1.1, layer2.1, layer3.1, layer4.1'
    assert f'--block layer3.0: {blocks}' in fails('--block', 'layer3.0')
    assert 'this data set has no class snwo; did you mean snow?' in fails('--classes', 'snwo')
    assert '--samples-per-class 0: at least 1' in fails('--samples-per-class', 0)
    assert 'nowhere does not exist' in fails(data='nowhere')
    without = ['--cfg-options', 'val_dataloader=None']
    assert '--split val: the config has no such data' in fails(*without)


def test_networks_without_anything_to_see(fails):
    options = ['--cfg-options', 'model.backbone.selection=random']
    rig_random = build(FOLDERS, options[1:])
    torch.save({'state_dict': rig_random.state_dict()}, 'rigged.pth')
    assert 'layer3.1 selects at random' in fails(*options)
    options = ['--cfg-options', 'model.backbone.type=ResNet_CIFAR']
    torch.save({'state_dict': build(FOLDERS, options[1:]).state_dict()}, 'rigged.pth')
    assert 'this network has no MoD block' in fails(*options)


def test_a_checkpoint_of_another_network(fails):
    line = fails('--cfg-options', 'model.backbone.depth=34')
    assert 'checkpoint rigged.pth does not fit this model' in line


def test_a_damaged_image(fails, folders):
    path = folders / 'test/snow/0.png'
    path.write_bytes(path.read_bytes()[:-20])
    assert f'{path} cannot be read' in fails('--cfg-options', *SINGLE)


def test_the_program(folders, run_python, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rig(FOLDERS)
    result = run_python(
        ROOT / 'tools/analysis_tools/channel_usage.py', FOLDERS, 'rigged.pth',
        '--data', folders, '--device', 'cpu', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert (
        'ink (3 images): 4 of 256 channels selected at least once, most often 3, 8, 13, 21'
        in result.stdout
    )
    assert len(list((tmp_path / 'work_dirs/resnet18-mod_cifar10-folder').iterdir())) == 2
