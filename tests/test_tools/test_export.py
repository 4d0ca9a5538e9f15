"""tools/deployment/export.py and test.py, for each task."""

import json
import sys

import pytest
import torch
from PIL import Image

from mmcnnmod.cli import export, test_exported
from mmcnnmod.deploy.formats import FORMATS, open_file
from mmcnnmod.deploy.torch_files import TorchScriptFile
from mmcnnmod.version import __version__

from ..utils.tasks import ROOT, TASKS, run_main, shrink, tail

# Of the images of the tasks.
SHAPES = {'mmpretrain': ('32', '32'), 'mmseg': ('32', '64'), 'mmdet': ('96', '128')}


@pytest.fixture
def trained_task(trained, data):
    """A function that trains a toolbox's task; returns config, checkpoint, options, data root."""

    def make(scope):
        work_dir, result = trained(scope)
        assert result.returncode == 0, tail(result)
        config, name, _, checkpoint, _ = TASKS[scope]
        options = ['--cfg-options', *shrink(scope)]
        return ROOT / config, work_dir / checkpoint, options, data / name

    return make


@pytest.mark.parametrize('what', ['model', 'backbone'])
def test_file_and_pytorch_have_the_same_score(
    toolbox, what, trained_task, in_process, tmp_path, capsys, data
):
    config, checkpoint, options, root = trained_task(toolbox)
    if (toolbox, what) == ('mmdet', 'model'):  # two iterations are too few for any score
        options = [*options, 'model.test_cfg.rcnn.score_thr=0.0']
    run_main(
        export, config, checkpoint, 'out/network.pt', '--what', what, '--shape', *SHAPES[toolbox],
        '--with-preprocessing', '--dynamic-shape', '--images', *data.rglob('*.jpg'), *options,
    )  # fmt: skip
    printed = capsys.readouterr().out
    height, width = SHAPES[toolbox]
    batches = (1,) if (toolbox, what) == ('mmdet', 'model') else (1, 3)
    shapes = [f'{batch}x3x{height}x{width}' for batch in batches]
    for line in [f'{shape}, {source}' for shape in shapes for source in ('random', 'real')]:
        assert line in printed
    assert 'the same' in printed
    assert 'DIFFERENT' not in printed
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['network.pt']

    metadata = open_file(tmp_path / 'out/network.pt').metadata
    assert metadata['mmcnnmod'] == __version__
    assert metadata['config'] == config.name
    assert (metadata['normalized'], metadata['dtype']) == ('no', 'uint8')
    assert metadata['channels'] == 'BGR'
    assert json.loads(metadata['mean']) == [123.675, 116.28, 103.53]
    assert json.loads(metadata['classes'])

    run_main(
        test_exported, config, 'out/network.pt', '--data-root', root, '--work-dir', 'work',
        '--out', 'scores.json', *options,
    )  # fmt: skip
    scores = json.loads((tmp_path / 'scores.json').read_text())
    assert list(scores) == [f'PyTorch, {checkpoint}', 'out/network.pt, f32']
    pytorch, file = scores.values()
    assert any(TASKS[toolbox][4] in key for key in file)
    for key, value in file.items():
        assert value == pytest.approx(pytorch[key], abs=0.05), key


def test_openvino_is_scored_in_both_precisions(trained_task, in_process, tmp_path):
    """Two files with a fixed batch size, one after the other."""
    for package in ('onnx', 'openvino', 'mmpretrain'):
        pytest.importorskip(package)
    config, checkpoint, options, root = trained_task('mmpretrain')
    for what in ('backbone', 'model'):
        run_main(export, config, checkpoint, 'a.xml', '--what', what, '--batch', 3, *options)
        run_main(
            test_exported, config, 'a.xml', '--data-root', root, '--work-dir', 'work',
            '--out', 'a.json', *options,
        )  # fmt: skip
        scores = json.loads((tmp_path / 'a.json').read_text())
        pytorch = scores[f'PyTorch, {checkpoint}']
        assert scores['a.xml, f32'] == pytest.approx(pytorch)
        assert len(scores) >= 2


@pytest.fixture
def classifier(trained_task, in_process):
    """The config, checkpoint and options of a classifier."""
    pytest.importorskip('mmpretrain')
    return trained_task('mmpretrain')[:3]


def test_program(classifier, run_python, tmp_path):
    config, checkpoint, options = classifier
    tool = ROOT / 'tools/deployment/export.py'
    result = run_python(tool, config, checkpoint, tmp_path / 'a.pt', *options, cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    assert f'written: {tmp_path / "a.pt"} (scores)' in result.stdout


def test_wrong_file_is_not_kept(classifier, fails, monkeypatch, tmp_path):
    config, checkpoint, options = classifier
    (tmp_path / 'a.pt').write_text('old')

    def write(cls, exported, path):
        with torch.no_grad():
            exported.part.model.head.fc.weight.neg_()
        original(exported, path)

    original = TorchScriptFile.write
    monkeypatch.setattr(TorchScriptFile, 'write', classmethod(write))
    line = fails(export.main, config, checkpoint, 'a.pt', *options)
    assert 'a.pt is not written: the file and PyTorch differ' in line
    assert (tmp_path / 'a.pt').read_text() == 'old'
    fails(export.main, config, checkpoint, 'new/folder/a.pt', *options)
    assert [file.name for file in tmp_path.iterdir()] == ['a.pt']


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['a.tflite'], 'a.tflite has an unknown suffix; use one of .onnx, .xml'),
        (['a.pt', '--format', 'torch-export'], 'OUT must end with .pt2, got a.pt'),
        (['/proc/nowhere/a.pt'], '/proc/nowhere/a.pt cannot be written'),
        (['a.pt', '--fp16'], '--fp16 works with onnx and openvino'),
        (['a.pt', '--batch', '0'], '--batch 0: use a number above 0'),
        (['a.pt', '--shape', '16', '64'], 'too small: use at least the stride of the network, 32'),
        (['a.pt', '--batch', '²'], '--batch ²: use a number above 0'),
        (['a.pt', '--images', 'nowhere.png'], 'nowhere.png is missing'),
    ],
)
def test_wrong_options(classifier, fails, tmp_path, more, message):
    config, checkpoint, options = classifier
    assert message in fails(export.main, config, checkpoint, *more, *options)
    assert not list(tmp_path.iterdir())


def test_checkpoint_of_another_network(classifier, fails, tmp_path):
    config, checkpoint, options = classifier
    line = fails(export.main, config, checkpoint, 'a.pt', *options, 'model.backbone.depth=34')
    assert 'does not fit this model' in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['onnx', 'openvino'])
def test_missing_package(classifier, fails, monkeypatch, name):
    config, checkpoint, options = classifier
    monkeypatch.setitem(sys.modules, 'onnx', None)
    line = fails(export.main, config, checkpoint, f'a{FORMATS[name].suffix}', *options)
    assert 'pip install onnx (tested versions: requirements/runtimes.txt)' in line


def test_random_selection_cannot_be_exported(classifier, fails, tmp_path):
    config, checkpoint, options = classifier
    content = torch.load(checkpoint, weights_only=False)
    content['state_dict'] = {
        name: tensor for name, tensor in content['state_dict'].items() if '.selector.' not in name
    }
    torch.save(content, tmp_path / 'random.pth')
    selection = 'model.backbone.selection=random'
    line = fails(export.main, config, tmp_path / 'random.pth', 'a.pt', *options, selection)
    assert "a network with selection='random' cannot be compared" in line


def test_config_without_a_model(classifier, fails, tmp_path):
    _, checkpoint, _ = classifier
    (tmp_path / 'a.py').write_text("default_scope = 'mmpretrain'\n")
    line = fails(export.main, tmp_path / 'a.py', checkpoint, 'a.pt')
    assert 'a.py has no model, which this program needs' in line


def test_out_is_a_folder(classifier, fails, tmp_path):
    config, checkpoint, options = classifier
    (tmp_path / 'a.pt').mkdir()
    assert 'a.pt is a folder' in fails(export.main, config, checkpoint, 'a.pt', *options)


def test_truncated_picture(classifier, fails, tmp_path):
    config, checkpoint, options = classifier
    path = tmp_path / 'cut.jpg'
    Image.new('RGB', (64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:400])
    line = fails(export.main, config, checkpoint, 'b.pt', *options, '--images', 'cut.jpg')
    assert 'cut.jpg' in line
    assert not (tmp_path / 'b.pt').exists()


def test_file_of_another_config(classifier, trained_task, fails):
    config, checkpoint, options = classifier
    run_main(export, config, checkpoint, 'a.pt', '--what', 'backbone', *options)
    pytest.importorskip('mmseg')
    config, checkpoint, options, root = trained_task('mmseg')
    line = fails(
        test_exported.main, config, 'a.pt', '--checkpoint', checkpoint, '--data-root', root,
        '--work-dir', 'work', *options, 'model.backbone.out_indices="(2,3)"',
        'model.decode_head.in_index=1',
    )  # fmt: skip
    assert 'test it with the config that it was exported with' in line


def test_limits_of_whole_detectors(trained_task, fails):
    pytest.importorskip('mmdet')
    config, checkpoint, options, _ = trained_task('mmdet')
    assert 'accepts one image' in fails(
        export.main, config, checkpoint, 'a.pt', '--batch', 4, *options
    )
    assert 'the number of boxes changes from image to image' in fails(
        export.main, config, checkpoint, 'a.pt2', *options
    )
    assert 'pads images to multiples of 32; use such a size' in fails(
        export.main, config, checkpoint, 'a.pt', '--shape', 100, 130, *options
    )
    assert 'there are no boxes to compare' in fails(
        export.main, config, checkpoint, 'a.pt', '--shape', 96, 128, *options,
        'model.test_cfg.rcnn.score_thr=1.0',
    )  # fmt: skip
    other = 'model.test_cfg.rcnn.nms.type=soft_nms'
    assert "is {'type': 'soft_nms', 'iou_threshold': 0.5}, not nms" in fails(
        export.main, config, checkpoint, 'a.pt', *options, other
    )
