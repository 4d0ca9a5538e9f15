"""Networks on a GPU against the same on the CPU, and mmcv's operators."""

from copy import deepcopy

import pytest
import torch

from mmcnnmod.backbones import MoDBackbone

pytestmark = pytest.mark.gpu

# Of every family and toolbox; images of 64x64.
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
    # Norms that fit their inputs: otherwise all logits are close to 0, and selections a toss-up.
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
def test_as_on_the_cpu(device, scope, cfg, form):
    if form == 'compiled' and cfg['type'] != 'ResNetMoD':
        pytest.skip('takes long')
    model = build(scope, cfg)
    assert isinstance(model, MoDBackbone)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = model(images)
        model = deepcopy(model).to(device)
        if form == 'deployed':
            model.switch_to_deploy()
        if form == 'compiled':
            model.forward = torch.compile(model.forward, fullgraph=True)
        found = model(images.to(device))
    assert len(found) == len(wanted)
    for out, right in zip(found, wanted, strict=True):
        # A tie between two channels may be broken either way: a few values may differ.
        close = torch.isclose(out.cpu(), right, rtol=1e-3, atol=1e-3 * right.abs().max().item())
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
    for device_ in (torch.device('cpu'), device):
        kept = ops.nms(boxes.to(device_), scores.to(device_), 0.5)[1]
        aligned = align(x.to(device_), rois.to(device_))
        deformed = deform.to(device_)(x.to(device_))
        if device_.type == 'cpu':
            wanted = kept, aligned, deformed
    assert torch.equal(kept.cpu(), wanted[0])
    torch.testing.assert_close(aligned.cpu(), wanted[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(deformed.cpu(), wanted[2], rtol=1e-4, atol=1e-4)
