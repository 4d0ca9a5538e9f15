"""Small networks of the three toolboxes with random norms, and files exported from them."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmcnnmod.deploy.exported_file import BATCH, HEIGHT, WIDTH, Export
from mmcnnmod.deploy.formats import FORMATS, open_file
from mmcnnmod.deploy.parts import folded, part_of, selectors, stride_of

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    'mmpretrain': 'resnet18-mod_cifar10',
    'mmseg': 'fcn_r18-mod_camvid',
    'mmdet': 'faster-rcnn_r18-mod_fpn_bccd',
}


@pytest.fixture
def build():
    """Build a toolbox's model from its config, optionally changed by a function."""

    def build(toolbox, change=lambda cfg: None):
        pytest.importorskip(toolbox)
        cfg = Config.fromfile(ROOT / f'configs/{CONFIGS[toolbox]}.py')
        if toolbox == 'mmpretrain':
            cfg.model.backbone.update(base_channels=16, stem_channels=16)
            cfg.model.head.in_channels = 128
            cfg.model.data_preprocessor = {**cfg.data_preprocessor, 'to_rgb': True}
        change(cfg)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(toolbox):
            model = MODELS.build(cfg.model).eval()
        for name, tensor in model.state_dict().items():
            if any(word in name for word in ('bn', 'norm')) and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
        return model

    return build


@pytest.fixture(scope='session')
def write(tmp_path_factory):
    """Write a part to a file of a format, and open it."""

    def write(part, name, dynamic=(BATCH, HEIGHT, WIDTH), size=(64, 96), **options):
        kind = FORMATS[name]
        for package in kind.packages:
            pytest.importorskip(package, reason='in requirements/runtimes.txt')
        path = tmp_path_factory.mktemp(name) / f'network{kind.suffix}'
        dtype = torch.uint8 if part.raw else torch.float32
        images = torch.zeros(1 if part.one_image else 2, 3, *size, dtype=dtype)
        notes = dict(what='model', config='a.py', normalized='no' if part.raw else 'yes')
        stride = stride_of(part.model)
        kind.write(Export(folded(part), images, dynamic, stride, notes, **options), path)
        return open_file(path, list(selectors(part)) if kind.shows_selections else ())

    return write


@pytest.fixture
def part(build):
    """Build a part of a toolbox's model."""

    def build_part(toolbox, what='model', raw=False, change=lambda cfg: None):
        if toolbox == 'mmdet':
            what = 'backbone'  # test_faster_rcnn.py tests whole detectors
        return part_of(build(toolbox, change), what, raw)

    return build_part
