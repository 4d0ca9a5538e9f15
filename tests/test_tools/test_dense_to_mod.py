"""tools/model_converters/dense_to_mod.py, for backbones and whole models."""

import pytest
import torch
import torchvision
from mmengine.registry import MODELS, DefaultScope

from mmcnnmod.cli import dense_to_mod, preflight
from mmcnnmod.cli.config import read_config

from ..utils.tasks import ROOT, TASKS, run_main, shrink, tail

# Options that make the model small, and a tensor outside the backbone.
SMALL_DETECTOR = [option for option in TASKS['mmdet'][2] if option.startswith('model.')]
OUTSIDE = {
    'mmpretrain': 'head.fc.weight',
    'mmseg': 'decode_head.conv_seg.weight',
    'mmdet': 'roi_head.bbox_head.fc_cls.weight',
}

pytestmark = [pytest.mark.filterwarnings('ignore'), pytest.mark.usefixtures('in_process')]


def arguments(toolbox, checkpoint, out, *cfg_options):
    """The command line without calibration."""
    if toolbox == 'mmdet':
        cfg_options = [*SMALL_DETECTOR, *cfg_options]
    options = ['--cfg-options', *cfg_options] if cfg_options else []
    return [ROOT / TASKS[toolbox][0], checkpoint, out, '--calibrate', '0', *options]


def convert(toolbox, checkpoint, out, *cfg_options):
    run_main(dense_to_mod, *arguments(toolbox, checkpoint, out, *cfg_options))
    return torch.load(out, weights_only=True)


def build(toolbox, *cfg_options):
    """The model of a toolbox's task."""
    command = map(str, arguments(toolbox, '', '', *cfg_options))
    args = dense_to_mod.dense_to_mod_parser().parse_args(command)
    cfg = read_config(args.config, args.cfg_options)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(toolbox):
        return MODELS.build(cfg.model)


def save_dense(toolbox, *cfg_options):
    """Save the dense model of a toolbox's task as a.pth; returns the model."""
    model = build(toolbox, 'model.backbone.type=ResNet', *cfg_options)
    meta = dict(dataset_meta=dict(classes=['x']), cfg='')
    torch.save(dict(state_dict=model.state_dict(), meta=meta), 'a.pth')
    return model


def test_whole_model_keeps_its_other_parts(toolbox, tmp_path, capsys):
    dense = save_dense(toolbox)
    content, old = convert(toolbox, 'a.pth', 'b.pth'), dense.state_dict()
    rest = [name for name in old if not name.startswith('backbone.')]
    assert OUTSIDE[toolbox] in rest
    for name in (*rest, 'backbone.conv1.weight', 'backbone.layer4.0.conv2.weight'):
        assert torch.equal(content['state_dict'][name], old[name]), name
    assert content['meta']['dataset_meta'] == dict(classes=['x'])
    assert 'ResNetMoD' in content['meta']['cfg']
    assert {path.name for path in tmp_path.iterdir()} == {'a.pth', 'b.pth'}

    printed = capsys.readouterr().out
    assert 'backbone: 60 tensors of a ResNet-18' in printed
    counted = len([name for name in rest if not name.endswith('num_batches_tracked')])
    assert f'other parts: {counted} of {counted} tensors kept\n' in printed
    # tools/test.py does the same check.
    preflight.check_weights(build(toolbox), content, 'b.pth', complete=True)


def test_dense_config_with_mod(capsys):
    pytest.importorskip('mmpretrain')
    dense = save_dense('mmpretrain')
    options = ['model.backbone.type=ResNet', 'load_from=nowhere.pth', '--mod', 'depth=34']
    weights = convert('mmpretrain', 'a.pth', 'b.pth', *options)['state_dict']
    assert 'model.backbone.depth: 18 -> 34' in capsys.readouterr().out
    assert torch.equal(weights['backbone.conv1.weight'], dense.backbone.conv1.weight)
    assert 'backbone.layer3.5.conv_block.0.conv.weight' in weights


def test_backbone_checkpoint_and_the_same_initialisation_twice(capsys):
    pytest.importorskip('mmpretrain')
    dense = torchvision.models.resnet18()
    torch.save(dense.state_dict(), 'a.pth')
    first, second = (
        convert('mmpretrain', 'a.pth', out)['state_dict'] for out in ('b.pth', 'c.pth')
    )
    assert torch.equal(first['backbone.layer2.0.conv1.weight'], dense.layer2[0].conv1.weight)
    assert all(torch.equal(first[name], second[name]) for name in first)
    line = 'other parts: 0 of 2 tensors kept; fresh, not in the checkpoint: head.fc.weight, head.'
    assert line in capsys.readouterr().out


def test_another_number_of_classes(capsys):
    pytest.importorskip('mmpretrain')
    save_dense('mmpretrain', 'model.head.num_classes=7')
    convert('mmpretrain', 'a.pth', 'b.pth')
    assert 'fresh, other shape: head.fc.weight, head.fc.bias' in capsys.readouterr().out


@pytest.mark.parametrize(
    'options',
    [
        ['model.pretrained=nowhere.pth'],
        ['model.init_cfg.type=Pretrained', 'model.init_cfg.checkpoint=nowhere.pth'],
        [
            'model.backbone.init_cfg.type=DensePretrained',
            'model.backbone.init_cfg.checkpoint=nowhere.pth',
        ],
    ],
)
def test_checkpoints_in_the_config_are_not_loaded(options):
    """They may be this very checkpoint, or not exist."""
    pytest.importorskip('mmseg')
    save_dense('mmseg')
    convert('mmseg', 'a.pth', 'b.pth', *options)


def test_calibration_estimates_all_statistics(toolbox, data):
    """Also those of frozen batch norms."""
    save_dense(toolbox)
    args = arguments(toolbox, 'a.pth', 'b.pth', *shrink(toolbox))
    run_main(
        dense_to_mod, *args[:3], '--calibrate', 2, '--data-root', data / TASKS[toolbox][1],
        *args[5:],
    )  # fmt: skip
    weights = torch.load('b.pth', weights_only=True)['state_dict']
    means = [
        tensor
        for name, tensor in weights.items()
        if name.startswith('backbone.') and name.endswith('running_mean')
    ]
    # Two for each of the 8 blocks, the shortcuts and the stem.
    assert len(means) == 2 * 8 + 3 + 1
    assert all(mean.any() for mean in means)


def test_program_and_training_from_its_checkpoint(data, run_python, tmp_path):
    pytest.importorskip('mmpretrain')
    config, name, *_ = TASKS['mmpretrain']
    dense = save_dense('mmpretrain')
    args = arguments('mmpretrain', 'a.pth', 'b.pth')
    result = run_python(ROOT / 'tools/model_converters/dense_to_mod.py', *args, cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    result = run_python(
        ROOT / 'tools/train.py', ROOT / config, '--data-root', data / name,
        '--work-dir', tmp_path / 'out', '--cfg-options', *shrink('mmpretrain'),
        'load_from=b.pth', 'optim_wrapper.optimizer.lr=0', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    trained = torch.load(tmp_path / 'out' / 'epoch_1.pth', weights_only=False)['state_dict']
    assert torch.equal(trained['backbone.conv1.weight'], dense.backbone.conv1.weight)


MOD_CONFIG = ROOT / TASKS['mmpretrain'][0]


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        ((MOD_CONFIG, 'no.pth', 'b.pth'), ['checkpoint no.pth does not exist']),
        ((ROOT / 'configs/resnet18_in1k.py', 'a.pth', 'b.pth'), ['no MoD backbone']),
        ((MOD_CONFIG, 'r50.pth', 'b.pth'), ['r50.pth: ResNetMoD 18 needs', 'is a ResNet-50']),
        (
            (MOD_CONFIG, 'a.pth', 'no/b.pth'),
            ['the folder no does not exist'],
        ),
        ((MOD_CONFIG, 'a.pth', '.'), ['is a folder']),
        ((MOD_CONFIG, 'a.pth', 'b.pth', '--prefix', 'x'), ["under the prefix 'x.'"]),
        # Calibration is the default.
        (
            (MOD_CONFIG, 'a.pth', 'b.pth'),
            ['does not exist', '--data-root', '--calibrate 0 needs no data'],
        ),
    ],
)
def test_errors(fails, tmp_path, args, words):
    pytest.importorskip('mmpretrain')
    torch.save(torchvision.models.resnet18().state_dict(), 'a.pth')
    torch.save(torchvision.models.resnet50().state_dict(), 'r50.pth')
    line = fails(dense_to_mod.main, *args)
    assert all(word in line for word in words), line
    assert not (tmp_path / 'b.pth').exists()
