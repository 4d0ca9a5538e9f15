"""The programs in examples/ run on small data."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mmcnnmod.cli import export

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / 'examples/swap_train_look.py'
SERVE = ROOT / 'examples/segment_folder.py'


def test_swap_train_look(run_python, tmp_path):
    pytest.importorskip('mmpretrain')
    small = ['--train', '16', '--val', '8', '--epochs', '1']
    result = run_python(EXAMPLE, '--work-dir', tmp_path, *small, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    before, after = (
        int(number.replace(',', '')) for number in re.findall(r'parameters: (.+)', result.stdout)
    )
    assert 0 < after < before / 2
    assert 'ResNet_CIFAR -> ResNetMoD_CIFAR' in result.stdout
    assert (tmp_path / 'epoch_1.pth').is_file()
    assert (tmp_path / 'channel_usage_layer3.1.png').stat().st_size > 0


def test_example_ends_when_a_step_fails(run_python, tmp_path):
    result = run_python(EXAMPLE, '--work-dir', tmp_path, '--train', '1', cwd=tmp_path)
    assert result.returncode == 2
    assert 'error: argument --train: 4 classes need at least as many images' in result.stderr
    assert '2/5' not in result.stdout


WITHOUT_TORCH = """
import runpy, sys
for package in ('torch', 'mmcnnmod', 'mmengine', 'mmcv'):
    sys.modules[package] = None
path, *sys.argv[1:] = sys.argv[1:]
runpy.run_path(path, run_name='__main__')
"""


@pytest.mark.parametrize('more', [(), ('--dynamic-shape', '--with-preprocessing')])
def test_segment_folder_needs_no_torch(tmp_path, capsys, more):
    """The overlays show the label map that the segmentor predicts."""
    for package in ('onnx', 'onnxruntime', 'mmseg'):
        pytest.importorskip(package)
    from mmseg.structures import SegDataSample

    cfg = Config.fromfile(ROOT / 'configs/fcn_r18-mod_camvid.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model).eval()
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'a.pth')
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    (tmp_path / 'images').mkdir()
    Image.fromarray(pixels).save(tmp_path / 'images/a.png')
    export.main(
        [cfg.filename, *map(str, (tmp_path / 'a.pth', tmp_path / 'a.onnx')),
         '--shape', '96', '128', *more]
    )  # fmt: skip
    subprocess.run(
        [sys.executable, '-c', WITHOUT_TORCH, SERVE, 'a.onnx', 'images', 'overlays'],
        check=True, cwd=tmp_path,
    )  # fmt: skip

    image = torch.from_numpy(pixels[:, :, ::-1].transpose(2, 0, 1).copy())  # as OpenCV reads it
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[SegDataSample()]))
    with torch.no_grad():
        labels = model.predict(data['inputs'])[0].pred_sem_seg.data[0].numpy()
    palette = np.uint8(cfg.camvid.metainfo.palette)
    expected = Image.blend(Image.fromarray(pixels), Image.fromarray(palette[labels]), 0.5)
    found = Image.open(tmp_path / 'overlays/a.png')
    assert (np.asarray(found) == np.asarray(expected)).all(-1).mean() > 0.999
