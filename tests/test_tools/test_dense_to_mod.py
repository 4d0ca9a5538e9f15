"""Dense checkpoints, of backbones and of whole models, become checkpoints of MoD models."""

import logging

import pytest
import torch
import torchvision
from mmengine.registry import MODELS, DefaultScope

from mmcnnmod.cli import dense_to_mod, preflight
from mmcnnmod.cli.config import read_config

from ..utils.tasks import ROOT, TASKS, shrink, tail

# Options that make the model small, and a tensor outside the backbone.
SMALL_DETECTOR = [option for option in TASKS['mmdet'][2] if option.startswith('model.')]
OUTSIDE = {
    'mmpretrain': 'head.fc.weight',
    'mmseg': 'decode_head.conv_seg.weight',
    'mmdet': 'roi_head.bbox_head.fc_cls.weight',
}

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(autouse=True)
def closed_streams(monkeypatch):
    # mmengine's loggers keep the captured streams of earlier tests.
    monkeypatch.setattr(logging, 'raiseExceptions', False)


def arguments(toolbox, checkpoint, out, *options):
    cfg_options = [*(SMALL_DETECTOR if toolbox == 'mmdet' else []), *options]
    more = ['--cfg-options', *cfg_options] if cfg_options else []
    plain = ['--calibrate', '0']
    return [str(arg) for arg in (ROOT / TASKS[toolbox][0], checkpoint, out, *plain, *more)]


def build(toolbox, *options):
    args = dense_to_mod.dense_to_mod_parser().parse_args(arguments(toolbox, '', '', *options))
    cfg = read_config(args.config, args.cfg_options)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(toolbox):
        return MODELS.build(cfg.model)


def save(model, path):
    meta = dict(dataset_meta=dict(classes=['x']), cfg='')
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


def fails(capsys, *args):
    with pytest.raises(SystemExit) as end:
        dense_to_mod.main(list(map(str, args)))
    assert end.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith('error: ')
    return lines[-1]


def test_a_whole_model_keeps_its_other_parts(toolbox, tmp_path, capsys):
    dense = build(toolbox, 'model.backbone.type=ResNet')
    out = tmp_path / 'b.pth'
    dense_to_mod.main(arguments(toolbox, save(dense, tmp_path / 'a.pth'), out))
    content, old = torch.load(out, weights_only=True), dense.state_dict()
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
    # As tools/test.py checks it.
    preflight.check_weights(build(toolbox), content, str(out), complete=True)


def test_a_dense_config_with_mod(tmp_path, capsys):
    pytest.importorskip('mmpretrain')
    dense = build('mmpretrain', 'model.backbone.type=ResNet')
    options = ['model.backbone.type=ResNet', 'load_from=nowhere.pth']
    args = arguments('mmpretrain', save(dense, tmp_path / 'a.pth'), tmp_path / 'b.pth', *options)
    dense_to_mod.main([*args, '--mod', 'depth=34'])
    assert 'model.backbone.depth: 18 -> 34' in capsys.readouterr().out
    content = torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict']
    assert torch.equal(
        content['backbone.conv1.weight'], dense.state_dict()['backbone.conv1.weight']
    )
    assert 'backbone.layer3.5.conv_block.0.conv.weight' in content


def test_a_backbone_alone_fills_the_backbone(tmp_path, capsys):
    """The rest is initialised and named; two runs give the same."""
    pytest.importorskip('mmpretrain')
    dense = torchvision.models.resnet18()
    torch.save(dense.state_dict(), tmp_path / 'a.pth')
    outs = [tmp_path / name for name in ('b.pth', 'c.pth')]
    for out in outs:
        dense_to_mod.main(arguments('mmpretrain', tmp_path / 'a.pth', out))
    one, two = (torch.load(out, weights_only=True)['state_dict'] for out in outs)
    assert torch.equal(one['backbone.layer2.0.conv1.weight'], dense.layer2[0].conv1.weight)
    assert all(torch.equal(one[name], two[name]) for name in one)
    line = 'other parts: 0 of 2 tensors kept; fresh, not in the checkpoint: head.fc.weight, head.'
    assert line in capsys.readouterr().out


def test_another_number_of_classes(tmp_path, capsys):
    pytest.importorskip('mmpretrain')
    dense = build('mmpretrain', 'model.backbone.type=ResNet', 'model.head.num_classes=7')
    dense_to_mod.main(arguments('mmpretrain', save(dense, tmp_path / 'a.pth'), tmp_path / 'b.pth'))
    assert 'fresh, other shape: head.fc.weight, head.fc.bias' in capsys.readouterr().out


def test_weights_named_in_the_config_are_not_loaded(tmp_path):
    """They may be this very checkpoint, or not available."""
    pytest.importorskip('mmseg')
    dense = save(build('mmseg', 'model.backbone.type=ResNet'), tmp_path / 'a.pth')
    for name, options in (
        ('b.pth', ['model.pretrained=nowhere.pth']),
        ('c.pth', ['model.init_cfg.type=Pretrained', 'model.init_cfg.checkpoint=nowhere.pth']),
        (
            'd.pth',
            [
                'model.backbone.init_cfg.type=DensePretrained',
                'model.backbone.init_cfg.checkpoint=nowhere.pth',
            ],
        ),
    ):
        dense_to_mod.main(arguments('mmseg', dense, tmp_path / name, *options))
        assert (tmp_path / name).is_file()


def test_calibration(toolbox, data, tmp_path):
    """The norms see the training data; frozen ones too."""
    name = TASKS[toolbox][1]
    dense = save(build(toolbox, 'model.backbone.type=ResNet'), tmp_path / 'a.pth')
    args = arguments(toolbox, dense, tmp_path / 'b.pth', *shrink(toolbox))
    args[4] = '2'
    dense_to_mod.main([*args[:5], '--data-root', str(data / name), *args[5:]])
    weights = torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict']
    means = [
        tensor
        for name, tensor in weights.items()
        if name.startswith('backbone.') and name.endswith('running_mean')
    ]
    # Two for each of the 8 blocks, the shortcuts and the stem.
    assert len(means) == 2 * 8 + 3 + 1
    assert all(mean.any() for mean in means)


def test_training_starts_from_it(data, run_python, tmp_path):
    pytest.importorskip('mmpretrain')
    config, name, *_ = TASKS['mmpretrain']
    dense = build('mmpretrain', 'model.backbone.type=ResNet')
    args = arguments('mmpretrain', save(dense, tmp_path / 'a.pth'), tmp_path / 'b.pth')
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


def test_errors(tmp_path, capsys):
    pytest.importorskip('mmpretrain')
    config = ROOT / TASKS['mmpretrain'][0]
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / 'a.pth')
    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / 'r50.pth')
    out = tmp_path / 'b.pth'
    for args, words in [
        ((config, 'no.pth', out), ['checkpoint no.pth does not exist']),
        (('no.py', tmp_path / 'a.pth', out), ['config no.py does not exist']),
        ((ROOT / 'configs/resnet18_in1k.py', tmp_path / 'a.pth', out), ['no MoD backbone']),
        ((config, tmp_path / 'r50.pth', out), ['r50.pth: ResNetMoD 18 needs', 'is a ResNet-50']),
        ((config, tmp_path / 'a.pth', tmp_path / 'no' / 'b.pth'), ['its folder does not exist']),
        ((config, tmp_path / 'a.pth', tmp_path), ['is a folder']),
        ((config, tmp_path / 'a.pth', out, '--prefix', 'x'), ["under the prefix 'x.'"]),
        # The norms are estimated unless it is said otherwise.
        (
            (config, tmp_path / 'a.pth', out),
            ['does not exist', '--data-root', '--calibrate 0 needs no data'],
        ),
    ]:
        line = fails(capsys, *args)
        assert all(word in line for word in words), line
        assert not out.exists()
