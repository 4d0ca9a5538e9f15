"""The hook that tests a deployed copy of the model."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmcnnmod.errors import UserError
from mmcnnmod.ops import DeployedMoDBlock

from ..utils.training import BackboneModel

SMALL = dict(depth=18, base_channels=16, stem_channels=16, c=4)

pytestmark = pytest.mark.filterwarnings('ignore')


def make_runner(model, work_dir, name, **options):
    images = [dict(inputs=torch.rand(3, 32, 32)) for _ in range(6)]
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=DataLoader(images, batch_size=3),
        train_cfg=dict(by_epoch=False, max_iters=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5)),
        test_dataloader=DataLoader(images, batch_size=3),
        test_cfg=dict(),
        test_evaluator=[],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4)),
        experiment_name=f'{work_dir}-{name}',
        **options,
    )


@pytest.fixture
def tested(monkeypatch):
    """For each tested batch: whether the model is deployed, the images and the outputs."""
    steps = []

    def test_step(self, data):
        images = torch.stack([*data['inputs']])
        with torch.no_grad():
            out = self.backbone(images)[-1]
        deployed = any(isinstance(module, DeployedMoDBlock) for module in self.modules())
        steps.append((deployed, images, out))
        return [None]

    monkeypatch.setattr(BackboneModel, 'test_step', test_step)
    return steps


class HalveWeights(Hook):
    """Makes the weights of the runner's model differ from EMAHook's."""

    def before_test(self, runner):
        for parameter in runner.model.parameters():
            parameter.data.mul_(0.5)


def test_averaged_weights_are_deployed_and_the_model_is_restored(backbones, tmp_path, tested):
    ema = dict(type='EMAHook', momentum=0.5)
    torch.manual_seed(0)
    trained = BackboneModel(backbones.ResNetMoD(**SMALL, norm_eval=False))
    make_runner(trained, tmp_path, 'train', custom_hooks=[ema]).train()
    checkpoint = str(tmp_path / 'iter_4.pth')
    averaged = torch.load(checkpoint, weights_only=False)['state_dict']

    for name, hooks in (('plain', []), ('deployed', [dict(type='DeployHook')])):
        torch.manual_seed(1)
        model = BackboneModel(backbones.ResNetMoD(**SMALL, norm_eval=False))
        runner = make_runner(
            model, tmp_path, name, custom_hooks=[ema, HalveWeights(), *hooks], load_from=checkpoint
        )
        runner.test()
        assert runner.model is model
        for key, parameter in model.named_parameters():
            assert parameter.requires_grad
            torch.testing.assert_close(parameter.detach(), averaged[key] / 2)
    model.load_state_dict(averaged)
    model.eval()
    with torch.no_grad():
        expected = [model.backbone(images)[-1] for _, images, _ in tested]
    assert [deployed for deployed, *_ in tested] == [False, False, True, True]
    outputs = [out for *_, out in tested]
    torch.testing.assert_close(outputs, expected, rtol=1e-3, atol=1e-4)


@MODEL_WRAPPERS.register_module()
class Wrapper(torch.nn.Module):
    """Like the wrapper for several processes."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_wrapped_model_is_deployed_and_restored(backbones, tmp_path, tested):
    model = BackboneModel(backbones.ResNetMoD(**SMALL))
    runner = make_runner(model, tmp_path, 'wrapped', custom_hooks=[dict(type='DeployHook')])
    wrapper = runner.model = Wrapper(model)
    runner.test()
    assert all(deployed for deployed, *_ in tested)
    assert runner.model is wrapper
    assert not any(isinstance(module, DeployedMoDBlock) for module in model.modules())


def test_model_without_mod_backbone_raises_an_error(tmp_path):
    model = BackboneModel(torch.nn.Conv2d(3, 3, 1))
    runner = make_runner(model, tmp_path, 'dense', custom_hooks=[dict(type='DeployHook')])
    with pytest.raises(UserError, match=r'^BackboneModel has no MoD backbone [^\n]*$'):
        runner.test()
