"""Checks that a checkpoint belongs to a model, for load_from, resuming and testing."""

import pytest
import torch
from mmengine.runner import Runner
from torch import nn

from mmcnnmod.cli.preflight import CheckpointHook, check_weights
from mmcnnmod.errors import UserError

SMALL = dict(base_channels=16, stem_channels=16)


class Model(nn.Module):
    def __init__(self, backbone, classes=3):
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Sequential(*(nn.Conv2d(8, 8, 1) for _ in range(8)))
        self.head = nn.Linear(8, classes)


def make_dense(backbones, kind='ResNetMoD', **options):
    return getattr(backbones, kind).__bases__[-1](**options)


def check_weights_of(source, model, complete=False, prefix=''):
    content = {'state_dict': {prefix + n: t for n, t in source.state_dict().items()}, 'meta': {}}
    check_weights(model, content, 'a.pth', complete)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize(
    ('depth', 'given', 'options'),
    [
        (50, 50, {}),
        (75, 50, {}),
        (50, 101, {}),
        (26, 18, {}),
        (50, 50, dict(placement='every')),
        (50, 50, dict(mod_stages=[2])),
    ],
)
def test_dense_checkpoint_fits_mod_model(backbones, depth, given, options, prefix):
    model = Model(backbones.ResNetMoD(depth=depth, **SMALL, **options))
    source = Model(make_dense(backbones, depth=given, **SMALL), classes=5)  # as in fine-tuning
    check_weights_of(source, model, prefix=prefix)
    # It lacks the MoD blocks, so it cannot be tested or resumed.
    with pytest.raises(UserError, match=r'does not fit this model: .* it holds a dense ResNet'):
        check_weights_of(source, model, complete=True, prefix=prefix)


@pytest.mark.parametrize('kind', ['MobileNetV2MoD', 'VGGMoD', 'ConvNeXtMoD', 'ResNetV1dMoD'])
def test_dense_checkpoint_fits_each_family(backbones, kind):
    if not hasattr(backbones, kind):
        pytest.skip('this toolbox has no such backbone')
    options = {'VGGMoD': dict(depth=16), 'ResNetV1dMoD': dict(depth=50)}.get(kind, {})
    model = Model(getattr(backbones, kind)(**options))
    check_weights_of(Model(make_dense(backbones, kind, **options)), model)
    check_weights_of(model, model, complete=True)


def test_checkpoint_of_another_toolbox_fits():
    pretrain = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
    seg = pytest.importorskip('mmcnnmod.toolboxes.mmseg')
    model = Model(seg.ResNetV1cMoD(depth=50, **SMALL))
    check_weights_of(Model(pretrain.ResNetV1c(depth=50, **SMALL)), model)


@pytest.mark.parametrize('complete', [True, False])
@pytest.mark.parametrize(
    ('kind', 'options', 'prefix', 'found'),
    [
        (
            'ResNetMoD',
            dict(depth=18),
            '',
            'of another shape .*; it holds a dense ResNet',
        ),
        ('ResNetMoD', dict(depth=50), 'encoder_q.', "a dense ResNet under 'encoder_q.backbone.'"),
        (
            'MobileNetV2MoD',
            {},
            '',
            "it holds a dense MobileNetV2 under 'backbone.'; use",
        ),
    ],
)
def test_checkpoint_of_another_network_raises_and_changes_nothing(
    backbones, kind, options, prefix, found, complete
):
    model = Model(backbones.ResNetMoD(depth=50, **SMALL))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if options:
        options = {**options, **SMALL}
    source = Model(make_dense(backbones, kind, **options))
    with pytest.raises(UserError, match=f'a.pth does not fit this model: .*{found}'):
        check_weights_of(source, model, complete, prefix)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_classifier_checkpoint_fits_model_with_a_large_head(backbones):
    model = Model(backbones.ResNetMoD(depth=18, **SMALL))
    model.neck = nn.Sequential(*(nn.Linear(2, 2) for _ in range(300)))
    check_weights_of(Model(make_dense(backbones, depth=18, **SMALL)), model)


def test_error_for_a_backbone_alone_names_pretrained(backbones):
    model = Model(backbones.ResNetMoD(depth=50, **SMALL))
    with pytest.raises(UserError, match=r'it holds a dense ResNet; .* use --pretrained'):
        check_weights_of(make_dense(backbones, depth=50, **SMALL), model)


def test_error_for_mod_checkpoint_and_dense_config_names_mod(backbones):
    model = Model(make_dense(backbones, depth=50, **SMALL))
    trained = Model(backbones.ResNetMoD(depth=50, **SMALL))
    with pytest.raises(UserError, match=r'it holds a ResNet-MoD .* or --mod with the'):
        check_weights_of(trained, model, complete=True)


@pytest.mark.filterwarnings('ignore')
def test_nothing_is_loaded_before_the_check(backbones, tmp_path):
    model = Model(make_dense(backbones, depth=50, **SMALL))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = str(tmp_path / 'b.pth')
    torch.save({'state_dict': {name: t + 1 for name, t in before.items() if 'head' in name}}, path)
    runner = Runner(model, str(tmp_path), experiment_name=str(tmp_path))
    runner.register_hook(CheckpointHook(path, complete=True))
    with pytest.raises(UserError, match=r'b\.pth does not fit'):
        runner.load_checkpoint(path)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@pytest.mark.filterwarnings('ignore')
def test_nothing_is_resumed_before_the_check(backbones, tmp_path):
    """Not from a URL, either: resuming would run the text in meta.config."""
    model = Model(make_dense(backbones, depth=50, **SMALL))
    content = {'state_dict': model.state_dict(), 'message_hub': {}, 'meta': {'config': 'x = 1'}}
    path = str(tmp_path / 'c.pth')
    torch.save(content, path)
    runner = Runner(model, str(tmp_path), experiment_name=str(tmp_path))
    hook = CheckpointHook('https://a/c.pth', complete=True, resume=True)
    runner.register_hook(hook)
    with pytest.raises(UserError, match=r'https://a/c\.pth is refused: resuming would run'):
        runner.resume(path)
