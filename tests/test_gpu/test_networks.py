"""Networks and mmcv's operators on a GPU, against the CPU."""

from copy import deepcopy

import pytest
import torch

from mmcnnmod.backbones import MoDBackbone

pytestmark = pytest.mark.gpu

# Every family and toolbox.
NETWORKS = [
    ('mmpretrain', dict(type='ResNetMoD', depth=50, out_indices=(0, 1, 2, 3))),
    ('mmpretrain', dict(type='MobileNetV2MoD')),
    ('mmpretrain', dict(type='VGGMoD', depth=16, norm_cfg=dict(type='BN'))),
    ('mmpretrain', dict(type='ConvNeXtMoD', arch='tiny')),
    ('mmseg', dict(type='ResNetMoD', depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))),
    ('mmdet', dict(type='ResNetMoD', depth=75)),
]
FORMS = ['plain', 'deployed', 'compiled']


def build(scope, cfg):
    pytest.importorskip(scope)
    from mmengine.registry import MODELS, DefaultScope

    import mmcnnmod  # noqa: F401

    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build({**cfg, 'type': f'{scope}.{cfg["type"]}'})
    model.init_weights()
    # With the default statistics of norms, all logits would be close to 0 and selections arbitrary.
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 64, 64))
    return model.eval()


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(
    ('scope', 'cfg'), NETWORKS, ids=lambda x: x if isinstance(x, str) else x['type']
)
def test_same_outputs_as_on_the_cpu(device, scope, cfg, form):
    if form == 'compiled' and cfg['type'] != 'ResNetMoD':
        pytest.skip('takes long')
    model = build(scope, cfg)
    assert isinstance(model, MoDBackbone)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        model = deepcopy(model).to(device)
        if form == 'deployed':
            model.switch_to_deploy()
        if form == 'compiled':
            model.forward = torch.compile(model.forward, fullgraph=True)
        outs = model(images.to(device))
    for out, reference in zip(outs, expected, strict=True):
        # A few values may differ, because channels of almost equal scores may be swapped.
        atol = 1e-3 * reference.abs().max().item()
        close = torch.isclose(out.cpu(), reference, rtol=1e-3, atol=atol)
        assert close.float().mean() > 0.99


def test_operators_of_mmcv(device):
    ops = pytest.importorskip('mmcv.ops')
    torch.manual_seed(0)
    corners = torch.rand(50, 2) * 20
    boxes = torch.cat([corners, corners + 4 + torch.rand(50, 2) * 8], dim=1)
    scores, x = torch.rand(50), torch.randn(1, 8, 32, 32)
    rois = torch.cat([torch.zeros(50, 1), boxes], dim=1)
    align = ops.RoIAlign(7, spatial_scale=1.0, sampling_ratio=2)
    deform = ops.ModulatedDeformConv2dPack(8, 8, 3, padding=1)
    results = []
    for place in ('cpu', device):
        kept = ops.nms(boxes.to(place), scores.to(place), 0.5)[1]
        aligned = align(x.to(place), rois.to(place))
        deformed = deform.to(place)(x.to(place))
        results.append([tensor.cpu() for tensor in (kept, aligned, deformed)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
