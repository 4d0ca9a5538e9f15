"""Training that starts from other weights, and with other runners and styles of configs."""

import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmcnnmod.cli import test as testing
from mmcnnmod.cli import train as training

from ..utils.tasks import ROOT, arguments, shrink, tail

pytestmark = pytest.mark.filterwarnings('ignore')
FROZEN = 'optim_wrapper.optimizer.lr=0'
DETECTOR = ROOT / 'configs/faster-rcnn_r50_fpn_voc0712.py'


@pytest.fixture
def train(data, in_process):
    """Train a toolbox's task for one epoch; returns the weights."""

    def train(toolbox, config, *options, cfg_options=()):
        command = arguments(toolbox, data, *options, config=config)
        training.main([*command, '--cfg-options', *shrink(toolbox), *cfg_options])
        return torch.load('out/epoch_1.pth', weights_only=False)['state_dict']

    return train


@pytest.fixture
def dense_detector(in_process):
    """The weights of a small dense detector with 7 classes, also in dense.pth."""
    pytest.importorskip('mmdet')
    cfg = Config.fromfile(DETECTOR)
    options = (option.partition('=') for option in shrink('mmdet') if option.startswith('model'))
    cfg.merge_from_dict({key: eval(value) for key, _, value in options})
    cfg.model.roi_head.bbox_head.num_classes = 7
    cfg.model.neck.in_channels = [64, 128, 256, 512]
    cfg.model.backbone.init_cfg = None
    init_default_scope('mmdet')
    torch.manual_seed(0)
    weights = MODELS.build(cfg.model).state_dict()
    torch.save({'state_dict': weights, 'meta': {}}, 'dense.pth')
    return weights


@pytest.mark.parametrize('options', [[], ['depth=26'], ['placement=every']])
def test_load_from_a_dense_detector(train, dense_detector, options):
    """All its weights are used, except those of its classes."""
    cfg_options = [FROZEN, 'load_from=dense.pth', 'model.backbone.init_cfg=None']
    weights = train('mmdet', DETECTOR, '--mod', *options, '--no-validate', cfg_options=cfg_options)
    for name in (
        'neck.lateral_convs.0.conv.weight',
        'rpn_head.rpn_conv.weight',
        'backbone.conv1.weight',
        'backbone.layer3.0.conv1.weight',
    ):
        assert torch.equal(weights[name], dense_detector[name]), name
    assert len(weights['roi_head.bbox_head.fc_cls.weight']) == 21
    assert any('.conv_block.' in name for name in weights)


@pytest.mark.parametrize(
    ('prefix', 'options', 'init_cfg'),
    [
        ('', [], ['type=Pretrained', 'checkpoint=a.pth']),
        (
            'module.encoder_q.',
            [],
            ['type=Pretrained', 'checkpoint=a.pth', 'prefix=module.encoder_q'],
        ),
        ('module.encoder_q.', ['--pretrained', 'a.pth'], []),
    ],
)
def test_start_from_a_dense_classifier(train, in_process, prefix, options, init_cfg):
    """Contrastive learning trains two encoders, q and k."""
    mmpretrain = pytest.importorskip('mmpretrain')
    dense = mmpretrain.models.ResNet(18).state_dict()
    names = {f'{prefix}{name}': tensor for name, tensor in dense.items()}
    names |= {name.replace('encoder_q', 'encoder_k'): tensor for name, tensor in names.items()}
    torch.save({'state_dict': names}, 'a.pth')
    weights = train(
        'mmpretrain', ROOT / 'configs/resnet18_in1k.py', '--mod', 'c=32', *options,
        cfg_options=[FROZEN, *(f'model.backbone.init_cfg.{setting}' for setting in init_cfg)],
    )  # fmt: skip
    name = 'layer4.0.conv1.weight'
    assert torch.equal(weights[f'backbone.{name}'], dense[name])
    assert weights['backbone.layer4.1.conv_block.0.conv.weight'].shape[1] == 512 // 32


def test_flexible_runner(data, in_process, fails):
    pytest.importorskip('mmpretrain')
    config, *flags = arguments('mmpretrain', data)
    options = ['--cfg-options', *shrink('mmpretrain'), 'runner_type=FlexibleRunner',
               'strategy.type=SingleDeviceStrategy']  # fmt: skip
    training.main([config, *flags, *options])
    training.main([config, *flags, '--resume', *options, 'train_cfg.max_epochs=2'])
    content = torch.load('out/epoch_2.pth', weights_only=False)
    assert content['meta']['epoch'] == 2
    testing.main([config, 'out/epoch_2.pth', *flags, '--deploy', *options])
    torch.save({'state_dict': torch.nn.Linear(3, 4).state_dict(), 'meta': {}}, 'other.pth')
    line = fails(training.main, config, *flags, *options, 'load_from=other.pth')
    assert 'checkpoint other.pth does not fit this model: 0 of' in line


@pytest.mark.parametrize(
    ('lines', 'words'),
    [
        (
            "data = dict(samples_per_gpu=2)\noptimizer = dict(type='SGD')\nrunner = dict()\n",
            'has the layout of mmdetection 2.x, mmsegmentation 0.x or mmcls (data, optimizer, '
            'runner); migrate it, see http',
        ),
        ('train_dataloader = dict()\n', 'has no train_cfg, which training needs'),
        ('', 'has no train_dataloader, which training needs'),
        ('x = nothing\n', "name 'nothing' is not defined"),
        ('x = (\n', 'was never closed'),
        ('assert 1 == 2\n', 'AssertionError in '),
        ('x = None.y\n', "'NoneType' object has no attribute 'y'"),
    ],
)
@pytest.mark.parametrize('options', [[], ['--amp'], ['--mod']])
def test_incomplete_config(fails, tmp_path, lines, words, options):
    pytest.importorskip('mmdet')
    model = "model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=50))\n"
    (tmp_path / 'a.py').write_text(f"default_scope = 'mmdet'\n{model}{lines}")
    line = fails(training.main, 'a.py', *options)
    assert line.startswith('error: config a.py')
    assert words in line


NEW_STYLE = """\
from mmengine.dataset import DefaultSampler
from mmengine.optim import OptimWrapper
from mmpretrain.datasets import ImageNet, LoadImageFromFile, PackInputs, Resize
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import (
    ClsDataPreprocessor, GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet)
from torch.nn import BatchNorm2d
from torch.optim import SGD
model = dict(
    type=ImageClassifier, data_preprocessor=dict(type=ClsDataPreprocessor),
    backbone=dict(type=ResNet, depth=18, norm_cfg=dict(type=BatchNorm2d)),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=2, in_channels=512))
pipeline = [dict(type=LoadImageFromFile), dict(type=Resize, scale=(32, 32)), dict(type=PackInputs)]
dataset = dict(type=ImageNet, data_root='data', pipeline=pipeline)
loader = dict(batch_size=2, sampler=dict(type=DefaultSampler, shuffle=False))
train_dataloader = dict(loader, dataset=dict(dataset, split='train'))
test_dataloader = dict(loader, dataset=dict(dataset, split='val'))
test_evaluator = dict(type=Accuracy, topk=(1,))
train_cfg = dict(by_epoch=True, max_epochs=1)
test_cfg = dict()
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))
"""


def test_new_style_config(data, in_process, tmp_path):
    """It has no default_scope and a class as norm; the config in the work dir runs, too."""
    pytest.importorskip('mmpretrain')
    (tmp_path / 'new.py').write_text(NEW_STYLE)
    training.main(arguments('mmpretrain', data, '--mod', 'depth=26', config='new.py'))
    weights = torch.load('out/epoch_1.pth', weights_only=False)['state_dict']
    assert any('.conv_block.' in name for name in weights)
    testing.main(['out/new.py', 'out/epoch_1.pth', '--work-dir', 'again'])


# Runs a program like Python, and prints the names of the threads that are left at its end.
LEFT_THREADS = """
import atexit, runpy, sys
from pathlib import Path

@atexit.register
def print_threads():
    print('left:', [name.read_text() for name in Path('/proc/self/task').glob('*/comm')])

del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    'runner', [[], ['runner_type=FlexibleRunner', 'strategy.type=DDPStrategy']]
)
def test_two_processes(data, run_tool, in_process, tmp_path, runner):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'program.py').write_text(LEFT_THREADS)
    result = run_tool(
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2',
        'program.py', ROOT / 'tools/train.py', *arguments('mmpretrain', data),
        '--launcher', 'pytorch', '--cfg-options', *shrink('mmpretrain'), *runner,
        'env_cfg.dist_cfg.backend=gloo', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    # Threads of gloo that are left when Python exits may abort the process.
    assert result.stdout.count('left:') == 2
    assert 'gloo' not in result.stdout.partition('left:')[2]
    # The names in a checkpoint of FlexibleRunner begin with 'module.'; one process can load them.
    config, *others = arguments('mmpretrain', data)
    testing.main([config, 'out/epoch_1.pth', *others, '--cfg-options', *shrink('mmpretrain')])
