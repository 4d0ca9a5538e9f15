"""The tools with other starting weights, runners and styles of configs."""

import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmcnnmod.cli import test as testing
from mmcnnmod.cli import train as training

from ..utils.tasks import ROOT, TASKS, shrink, tail

pytestmark = pytest.mark.filterwarnings('ignore')
FLEXIBLE = ['runner_type=FlexibleRunner', 'strategy.type=SingleDeviceStrategy']


def arguments(scope, data, *more, config=None):
    """For a small training of a toolbox's task."""
    ours, name, *_ = TASKS[scope]
    return [
        str(part)
        for part in (config or ROOT / ours, '--data-root', data / name, '--work-dir', 'out', *more)
    ]


def dense_detector(tmp_path, classes):
    """The checkpoint of a small dense detector, with another number of classes than VOC's."""
    cfg = Config.fromfile(ROOT / 'configs/faster-rcnn_r50_fpn_voc0712.py')
    options = (option.partition('=') for option in shrink('mmdet') if option.startswith('model'))
    cfg.merge_from_dict({key: eval(value) for key, _, value in options})
    cfg.model.roi_head.bbox_head.num_classes = classes
    cfg.model.neck.in_channels = [64, 128, 256, 512]
    cfg.model.backbone.init_cfg = None
    init_default_scope('mmdet')
    torch.manual_seed(0)
    weights = MODELS.build(cfg.model).state_dict()
    torch.save({'state_dict': weights, 'meta': {}}, tmp_path / 'dense.pth')
    return weights


@pytest.mark.parametrize('options', [[], ['depth=26'], ['placement=every']])
def test_load_from_a_whole_dense_detector(data, tmp_path, in_process, options):
    """Fine-tuning: all its weights are used but those of other classes."""
    pytest.importorskip('mmdet')
    dense = dense_detector(tmp_path, classes=7)
    dense_config = ROOT / 'configs/faster-rcnn_r50_fpn_voc0712.py'
    training.main(
        [
            *arguments('mmdet', data, '--mod', *options, config=dense_config),
            '--no-validate', '--cfg-options', *shrink('mmdet'), 'load_from=dense.pth',
            'model.backbone.init_cfg=None', 'optim_wrapper.optimizer.lr=0',
        ]
    )  # fmt: skip
    trained = torch.load('out/epoch_1.pth', weights_only=False)['state_dict']
    for name in (
        'neck.lateral_convs.0.conv.weight',
        'rpn_head.rpn_conv.weight',
        'backbone.conv1.weight',
        'backbone.layer3.0.conv1.weight',
    ):
        assert torch.equal(trained[name], dense[name]), name
    assert len(trained['roi_head.bbox_head.fc_cls.weight']) == 21
    assert any('.conv_block.' in name for name in trained)


@pytest.mark.parametrize('own', [['--pretrained', 'moco.pth'], []])
def test_backbones_from_contrastive_learning(data, tmp_path, in_process, own):
    mmpretrain = pytest.importorskip('mmpretrain')
    source = mmpretrain.models.ResNet(18).state_dict()
    names = {f'module.encoder_{x}.{name}': t for x in 'qk' for name, t in source.items()}
    torch.save({'state_dict': {**names, 'module.queue': torch.ones(2)}}, tmp_path / 'moco.pth')
    init_cfg = 'model.backbone.init_cfg'
    config = [f'{init_cfg}.type=Pretrained', f'{init_cfg}.checkpoint=moco.pth',
              f'{init_cfg}.prefix=module.encoder_q']  # fmt: skip
    training.main(
        [
            *arguments('mmpretrain', data, '--mod', config=ROOT / 'configs/resnet18_in1k.py'),
            *own, '--cfg-options', *shrink('mmpretrain'), 'optim_wrapper.optimizer.lr=0',
            *([] if own else config),
        ]
    )  # fmt: skip
    trained = torch.load('out/epoch_1.pth', weights_only=False)['state_dict']
    name = 'layer4.0.conv1.weight'
    assert torch.equal(trained[f'backbone.{name}'], source[name])


def test_flexible_runner(data, in_process, fails):
    pytest.importorskip('mmpretrain')
    options = ['--cfg-options', *shrink('mmpretrain'), *FLEXIBLE]
    training.main([*arguments('mmpretrain', data), *options])
    training.main([*arguments('mmpretrain', data, '--resume'), *options, 'train_cfg.max_epochs=2'])
    content = torch.load('out/epoch_2.pth', weights_only=False)
    assert content['meta']['epoch'] == 2
    config, *others = arguments('mmpretrain', data)
    testing.main([config, 'out/epoch_2.pth', *others, '--deploy', *options])
    torch.save({'state_dict': torch.nn.Linear(3, 4).state_dict(), 'meta': {}}, 'other.pth')
    line = fails(training.main, *arguments('mmpretrain', data), *options, 'load_from=other.pth')
    assert 'checkpoint other.pth does not fit this model: 0 of' in line


@pytest.mark.parametrize(
    ('lines', 'word'),
    [
        (
            "data = dict(samples_per_gpu=2)\noptimizer = dict(type='SGD')\nrunner = dict()\n",
            'has the layout of mmdetection 2.x, .* (data, optimizer, runner); migrate it, see http',
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
def test_an_incomplete_config(fails, tmp_path, lines, word, options):
    pytest.importorskip('mmdet')
    model = "model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=50))\n"
    (tmp_path / 'a.py').write_text(f"default_scope = 'mmdet'\n{model}{lines}")
    line = fails(training.main, 'a.py', *options)
    assert line.startswith('error: config a.py')
    for part in word.split(' .* '):
        assert part in line


def test_a_new_style_config_trains(data, in_process, tmp_path):
    """Without a default_scope, with a norm as a class; the copy in the work dir runs, too."""
    pytest.importorskip('mmpretrain')
    (tmp_path / 'new.py').write_text(
        'from mmengine.dataset import DefaultSampler\n'
        'from mmengine.optim import OptimWrapper\n'
        'from mmpretrain.datasets import ImageNet, LoadImageFromFile, PackInputs, Resize\n'
        'from mmpretrain.evaluation import Accuracy\n'
        'from mmpretrain.models import (\n'
        '    ClsDataPreprocessor, GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet)\n'
        'from torch.nn import BatchNorm2d\n'
        'from torch.optim import SGD\n'
        'model = dict(\n'
        '    type=ImageClassifier, data_preprocessor=dict(type=ClsDataPreprocessor),\n'
        '    backbone=dict(type=ResNet, depth=18, norm_cfg=dict(type=BatchNorm2d)),\n'
        '    neck=dict(type=GlobalAveragePooling),\n'
        '    head=dict(type=LinearClsHead, num_classes=2, in_channels=512))\n'
        'pipeline = [\n'
        '    dict(type=LoadImageFromFile), dict(type=Resize, scale=(32, 32)),\n'
        '    dict(type=PackInputs)]\n'
        "train_dataset = dict(type=ImageNet, data_root='data', split='train', pipeline=pipeline)\n"
        "val_dataset = dict(type=ImageNet, data_root='data', split='val', pipeline=pipeline)\n"
        'train_dataloader = dict(\n'
        '    batch_size=2, dataset=train_dataset,\n'
        '    sampler=dict(type=DefaultSampler, shuffle=True))\n'
        'test_dataloader = dict(\n'
        '    batch_size=2, dataset=val_dataset, sampler=dict(type=DefaultSampler, shuffle=False))\n'
        'test_evaluator = dict(type=Accuracy, topk=(1,))\n'
        'train_cfg = dict(by_epoch=True, max_epochs=1)\n'
        'test_cfg = dict()\n'
        'optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))\n'
    )
    training.main(arguments('mmpretrain', data, '--mod', 'depth=26', config='new.py'))
    trained = torch.load('out/epoch_1.pth', weights_only=False)['state_dict']
    assert any('.conv_block.' in name for name in trained)
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
