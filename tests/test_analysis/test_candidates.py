"""Skip bounds, baselines and training steps for the benchmark."""

from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmcnnmod.analysis.candidates import baseline_of, skip_bound, training_step
from mmcnnmod.analysis.channel_usage import mod_blocks
from mmcnnmod.analysis.counting import build_model, with_samples
from mmcnnmod.toolboxes import is_absent

from ..utils.tasks import ROOT

CONFIGS = {
    'mmpretrain': ('resnet18-mod_in1k', {}),
    'mmseg': ('fcn_r18-mod_street-scenes', {}),
    'mmdet': (
        'faster-rcnn_r18-mod_fpn_bccd',
        {
            'model.train_cfg.rpn_proposal.max_per_img': 20,
            'model.test_cfg.rpn.max_per_img': 20,
            'model.train_cfg.rcnn.sampler.num': 16,
        },
    ),
}


@pytest.fixture(scope='module', params=sorted(CONFIGS))
def built(request):
    """A config of each toolbox and its model."""
    if is_absent(request.param):
        pytest.skip(f'{request.param} is not installed')
    name, options = CONFIGS[request.param]
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    cfg.merge_from_dict(options)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        yield cfg, build_model(cfg)


def test_skip_bound_has_no_mod_blocks(built):
    _, model = built
    bound = skip_bound(model)
    blocks = mod_blocks(model)
    assert len(blocks) == 4
    assert not mod_blocks(bound)
    kept = bound.state_dict()
    for name, tensor in model.state_dict().items():
        in_block = any(name.startswith(f'backbone.{block}.') for block in blocks)
        assert (name not in kept) if in_block else torch.equal(kept[name], tensor)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        output, output_of_bound = model.backbone(images)[-1], bound.backbone(images)[-1]
    assert output.shape == output_of_bound.shape
    assert not torch.equal(output, output_of_bound)


def test_inference_returns_the_heads_outputs(built):
    _, model = built
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        output = with_samples(deepcopy(model), images)(images)
    first = output[0] if isinstance(output, (tuple, list)) else output
    assert len(first) == 2


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_training_step_computes_gradients_and_keeps_the_weights(built, dtype):
    cfg, model = built
    if cfg.default_scope == 'mmdet' and dtype != torch.float32:
        pytest.skip("mmcv's NMS on the CPU supports only float32")
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = {}
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda grad, name=name: gradients.update({name: grad.norm()}))
    step = training_step(model, cfg, torch.rand(2, 3, 64, 64), dtype)
    step()
    assert any('selector.fc1' in name for name in gradients)
    assert all(torch.isfinite(norm) for norm in gradients.values())
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name, _ in model.named_parameters())
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert any('running_mean' in name for name in changed)
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()


def test_baseline_of():
    assert baseline_of('resnet75-mod_in1k') == 'resnet50_in1k'  # as in Table 1
    assert baseline_of('resnet50-mod-c16_in1k') == 'resnet50_in1k'
    assert baseline_of('fcn_r50-mod_cityscapes') == 'fcn_r50_cityscapes'
    assert baseline_of('resnet50_in1k') is None
    assert baseline_of('mine') is None
