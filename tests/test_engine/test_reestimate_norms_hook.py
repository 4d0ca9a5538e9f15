"""Re-estimating the statistics of batch norms, including frozen ones."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmcnnmod.engine import ReestimateNormsHook
from mmcnnmod.engine.reestimate_norms_hook import reestimate_norms
from mmcnnmod.errors import UserError

from ..utils.training import BackboneModel

SMALL = dict(depth=18, base_channels=16, stem_channels=16)

pytestmark = pytest.mark.filterwarnings('ignore')


def statistics(network):
    return {n: b.clone() for n, b in network.named_buffers() if 'running' in n}


def assert_all_changed(network, before):
    after = statistics(network)
    assert not any(torch.equal(after[name], before[name]) for name in after)


def assert_none_changed(network, before):
    torch.testing.assert_close(statistics(network), before, rtol=0, atol=0)


def test_statistics_of_all_norms_are_those_of_the_batches(backbones):
    torch.manual_seed(0)
    network = backbones.ResNetMoD(**SMALL, frozen_stages=1, norm_eval=True)
    network.train()
    modes = {name: module.training for name, module in network.named_modules()}
    trainable = {name: p.requires_grad for name, p in network.named_parameters()}
    batches = [torch.rand(8, 3, 64, 64), torch.rand(8, 3, 64, 64)]
    before = statistics(network)
    reestimate_norms(network, batches, nn.Module.__call__)

    assert_all_changed(network, before)
    with torch.no_grad():
        stem = torch.stack([network.conv1(batch).mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(network.bn1.running_mean, stem)
    # With the right statistics, the outputs of all norms have mean 0 and deviation 1.
    network.eval()
    outputs = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Computed immediately, because the next ReLU changes the output.
            module.register_forward_hook(lambda m, i, out: outputs.append((out.mean(), out.std())))
    with torch.no_grad():
        network(torch.cat(batches))
    assert len(outputs) == len(before) / 2
    for mean, std in outputs:
        assert abs(mean) < 0.2
        assert abs(std - 1) < 0.2

    network.train()
    assert modes == {name: module.training for name, module in network.named_modules()}
    assert trainable == {name: p.requires_grad for name, p in network.named_parameters()}


def train(network, work_dir, seed, loop=None, loader=None, **options):
    torch.manual_seed(seed)
    images = [dict(inputs=torch.rand(3, 32, 32)) for _ in range(8)]
    Runner(
        model=BackboneModel(network),
        work_dir=str(work_dir),
        train_dataloader=DataLoader(images, batch_size=4, **(loader or {})),
        train_cfg=loop or dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        custom_hooks=[dict(type='ReestimateNormsHook')],
        experiment_name=f'{work_dir}-{seed}',
        **options,
    ).train()


def test_resumed_training_does_not_reestimate(backbones, tmp_path):
    network = backbones.ResNetMoD(**SMALL, norm_eval=True)
    before = statistics(network)
    train(network, tmp_path, seed=0)
    assert_all_changed(network, before)

    resumed = backbones.ResNetMoD(**SMALL, norm_eval=True)
    # The other images of seed 1 have other statistics.
    loop = dict(by_epoch=True, max_epochs=2)
    train(resumed, tmp_path, 1, loop, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    assert_none_changed(resumed, statistics(network))


@pytest.mark.parametrize('workers', [0, 1])
def test_iteration_based_training_has_batches_left(backbones, tmp_path, workers):
    """An InfiniteSampler, as in most configs of mmseg, can be iterated over only once."""
    network = backbones.ResNetMoD(**SMALL, norm_eval=True)
    before, with_gradients = statistics(network), []
    network.register_forward_hook(lambda *_: with_gradients.append(torch.is_grad_enabled()))

    sampler = InfiniteSampler(range(8), seed=0)
    loader = dict(sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    train(network, tmp_path, 0, dict(by_epoch=False, max_iters=5), loader)
    assert with_gradients == [False] * 2 + [True] * 5
    assert_all_changed(network, before)


@pytest.mark.parametrize('batches', [0, -1, 1.5, True])
def test_invalid_number_of_batches_raises_an_error(batches):
    with pytest.raises(UserError, match='batches must be a positive integer'):
        ReestimateNormsHook(batches)


def test_model_without_backbone_raises_an_error():
    runner = SimpleNamespace(model=nn.Linear(1, 1), iter=0, train_dataloader=[], train_loop=None)
    with pytest.raises(UserError, match='Linear has no backbone whose norms'):
        ReestimateNormsHook().before_train(runner)


class TwoStreams(BaseModel):
    """A siamese network for pairs of images, whose head has a norm and a queue."""

    def __init__(self, backbone):
        super().__init__()
        self.encoder = nn.ModuleDict(dict(shared=backbone))
        self.head = nn.BatchNorm1d(128)
        self.register_buffer('queue', torch.zeros(128))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        assert mode == 'loss'
        early, late = inputs[:, 0], inputs[:, 1]
        pair = [self.encoder['shared'](images)[-1].mean((2, 3)) for images in (early, late)]
        difference = self.head(pair[0] - pair[1])
        self.queue.copy_(difference.detach().mean(0))
        return dict(loss=difference.square().mean())


def test_backbone_gets_the_inputs_of_training_and_nothing_else_changes(backbones):
    torch.manual_seed(0)
    model = TwoStreams(backbones.ResNetMoD(**SMALL, norm_eval=True, frozen_stages=1))
    model.train()
    batches = [dict(inputs=torch.rand(4, 2, 3, 32, 32)) for _ in range(2)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert reestimate_norms(model, batches) == '20 of 20 norms of encoder.shared'
    changed = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert changed == {name for name in before if name.startswith('enc') and 'running' in name}
    with torch.no_grad():  # the mean over the images of both streams
        network = model.encoder['shared']
        images = torch.cat([batch['inputs'].flatten(0, 1) for batch in batches])
        torch.testing.assert_close(network.bn1.running_mean, network.conv1(images).mean((0, 2, 3)))


def test_model_with_tensors_computed_from_weights(backbones):
    """Such as buffers of mmdetection's CLRNet; torch does not copy them."""
    model = TwoStreams(backbones.ResNetMoD(**SMALL))
    model.register_buffer('priors', model.head.weight * 2)
    model.scale = model.head.weight.mean()
    before = statistics(model.encoder)
    reestimate_norms(model, [dict(inputs=torch.rand(4, 2, 3, 32, 32))])
    assert_all_changed(model.encoder, before)
    assert model.priors.requires_grad


def test_norms_with_zero_eps_are_reestimated(backbones):
    """torch does not allow training with eps=0, which networks converted from Caffe have."""
    norm_cfg = dict(type='BN', requires_grad=False, eps=0)
    network = backbones.ResNetMoD(**SMALL, norm_eval=True, norm_cfg=norm_cfg)
    before = statistics(network)
    reestimate_norms(network, [torch.rand(8, 3, 64, 64)], nn.Module.__call__)
    assert_all_changed(network, before)
    assert all(tensor.isfinite().all() for tensor in statistics(network).values())
    assert network.bn1.eps == 0


def test_unused_backbone_keeps_its_statistics(backbones):
    model = TwoStreams(backbones.ResNetMoD(**SMALL))
    model.unused = backbones.ResNetMoD(**SMALL)
    before = statistics(model.unused)
    summary = reestimate_norms(model, [dict(inputs=torch.rand(4, 2, 3, 32, 32))])
    assert summary.startswith('20 of 40')
    assert_none_changed(model.unused, before)
