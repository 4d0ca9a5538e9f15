"""tools/visualize.py, for each task."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image

from mmcnnmod.cli import visualize

from ..utils.tasks import ROOT, run_main

TOOL = ROOT / 'tools/visualize.py'
CONFIGS = {
    'mmpretrain': 'resnet18-mod_cifar10',
    'mmseg': 'fcn_r18-mod_camvid',
    'mmdet': 'faster-rcnn_r18-mod_fpn_bccd',
}
# The class that gets the highest score everywhere.
FAVOURED_CLASS = 1
FAVOURED = {'mmpretrain': 'head.fc', 'mmseg': 'decode_head.conv_seg', 'mmdet': None}


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    Image.new('RGB', (96, 64), 'gray').save(folder / 'a.png')
    Image.new('RGB', (64, 96), 'gray').save(folder / 'b.jpg')
    (folder / 'notes.txt').write_text('no picture')
    return folder


def config_path(toolbox):
    return ROOT / f'configs/{CONFIGS[toolbox]}.py'


def save_checkpoint(toolbox, path):
    cfg = Config.fromfile(config_path(toolbox))
    with DefaultScope.overwrite_default_scope(toolbox):
        model = MODELS.build(cfg.model)
    if FAVOURED[toolbox]:
        with torch.no_grad():
            model.get_submodule(FAVOURED[toolbox]).bias[FAVOURED_CLASS] = 100
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)


@pytest.fixture(autouse=True)
def remove_visualizer():
    """mmengine keeps visualizers by name until the process ends."""
    yield
    Visualizer._instance_dict.pop('visualize', None)


def test_predictions_are_drawn(toolbox, pictures, tmp_path):
    save_checkpoint(toolbox, tmp_path / 'a.pth')
    (pictures / 'more').mkdir()
    Image.new('RGB', (64, 64), 'gray').save(pictures / 'more/a.png')
    run_main(
        visualize, config_path(toolbox), tmp_path / 'a.pth', pictures, pictures / 'more',
        '--out-dir', tmp_path / 'out', '--score-thr', 0,
    )  # fmt: skip
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['a-2.png', 'a.png', 'b.png']
    drawn = np.array(Image.open(tmp_path / 'out/a.png').convert('RGB'))
    assert drawn.shape[1] / drawn.shape[0] == 96 / 64
    assert (drawn != 128).any()  # not only the grey picture
    if toolbox == 'mmseg':
        colours, counts = np.unique(drawn.reshape(-1, 3), axis=0, return_counts=True)
        palette = Config.fromfile(config_path(toolbox)).test_dataloader.dataset.metainfo.palette
        distances = np.abs(np.array(palette) - colours[counts.argmax()]).sum(1)
        assert distances.argmin() == FAVOURED_CLASS


def test_deployed_network_draws_the_same(toolbox, pictures, tmp_path, deployed_blocks):
    save_checkpoint(toolbox, tmp_path / 'a.pth')
    drawn = []
    for name, options in (('plain', []), ('deployed', ['--deploy'])):
        run_main(
            visualize, config_path(toolbox), tmp_path / 'a.pth', pictures / 'a.png',
            '--out-dir', tmp_path / name, *options,
        )  # fmt: skip
        drawn.append(np.array(Image.open(tmp_path / name / 'a.png')))
        assert bool(deployed_blocks) is bool(options)
        Visualizer._instance_dict.pop('visualize', None)
    assert np.array_equal(*drawn)


def test_files_are_converted_to_rgb_for_datasets_of_rgb_arrays():
    """The images of CIFAR-10 are RGB and not converted, but files are read as BGR."""
    pytest.importorskip('mmpretrain')
    cfg = Config.fromfile(config_path('mmpretrain'))
    assert cfg.data_preprocessor.to_rgb is False
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        steps = visualize.build_pipeline(cfg, visualize.read_from_files(cfg)).transforms
    assert type(steps[0].transform).__name__ == 'LoadImageFromFile'
    assert cfg.data_preprocessor.to_rgb is True


def test_bad_pictures(run_python, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    result = run_python(TOOL, 'config.py', 'a.pth', tmp_path / 'gone', cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.strip().endswith('gone is missing or not a picture; use another file')
    with pytest.raises(SystemExit):
        run_main(visualize, 'config.py', 'a.pth', tmp_path / 'empty')
    assert 'empty contains no pictures' in capsys.readouterr().err
