"""After a warm start the norms get statistics that fit the network, frozen norms as well."""

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


def test_statistics_are_those_of_the_batches_frozen_or_not(backbones):
    """All BatchNorms, in the order of the network: each sees what those before it make."""
    torch.manual_seed(0)
    network = backbones.ResNetMoD(**SMALL, frozen_stages=1, norm_eval=True)
    network.train()
    modes = {name: module.training for name, module in network.named_modules()}
    trainable = {name: p.requires_grad for name, p in network.named_parameters()}
    batches = [torch.rand(8, 3, 64, 64), torch.rand(8, 3, 64, 64)]
    before = statistics(network)
    reestimate_norms(network, batches, nn.Module.__call__)

    after = statistics(network)
    assert not any(torch.equal(after[name], before[name]) for name in after)
    with torch.no_grad():
        stem = torch.stack([network.conv1(batch).mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(network.bn1.running_mean, stem)
    # What follows a norm with the right statistics is centred and scaled.
    network.eval()
    seen = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # At once: a ReLU that follows works in place.
            module.register_forward_hook(lambda m, i, out: seen.append((out.mean(), out.std())))
    with torch.no_grad():
        network(torch.cat(batches))
    assert len(seen) == len(after) / 2
    for mean, std in seen:
        assert abs(mean) < 0.2
        assert abs(std - 1) < 0.2

    network.train()
    assert modes == {name: module.training for name, module in network.named_modules()}
    assert trainable == {name: p.requires_grad for name, p in network.named_parameters()}


def train(network, work_dir, seed, epochs=1, loading=None, loop=None, **options):
    torch.manual_seed(seed)
    images = [dict(inputs=torch.rand(3, 32, 32)) for _ in range(8)]
    Runner(
        model=BackboneModel(network),
        work_dir=str(work_dir),
        train_dataloader=DataLoader(images, batch_size=4, **(loading(images) if loading else {})),
        train_cfg=loop or dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        custom_hooks=[dict(type='ReestimateNormsHook')],
        experiment_name=f'{work_dir}-{seed}',
        **options,
    ).train()


def test_before_training_but_not_when_it_goes_on(backbones, tmp_path):
    """Other images would give other statistics."""
    network = backbones.ResNetMoD(**SMALL, norm_eval=True)
    before = statistics(network)
    train(network, tmp_path, 0)
    after = statistics(network)
    assert not any(torch.equal(after[name], before[name]) for name in after)

    resumed = backbones.ResNetMoD(**SMALL, norm_eval=True)
    train(resumed, tmp_path, 1, 2, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    assert all(torch.equal(t, after[name]) for name, t in statistics(resumed).items())


@pytest.mark.parametrize('workers', [0, 1])
def test_a_loop_that_counts_iterations_has_batches_left(backbones, tmp_path, workers):
    """As most of mmseg's: an InfiniteSampler is exhausted after it was iterated over once."""
    network = backbones.ResNetMoD(**SMALL, norm_eval=True)
    before, seen = statistics(network), []
    network.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))

    def loading(images):
        sampler = InfiniteSampler(images, seed=0)
        return dict(sampler=sampler, num_workers=workers, persistent_workers=workers > 0)

    train(network, tmp_path, 0, loading=loading, loop=dict(by_epoch=False, max_iters=5))
    assert seen == [False] * 2 + [True] * 5
    after = statistics(network)
    assert not any(torch.equal(after[name], before[name]) for name in after)


@pytest.mark.parametrize('batches', [0, -1, 1.5, True])
def test_bad_number_of_batches(batches):
    with pytest.raises(UserError, match='batches must be a positive integer'):
        ReestimateNormsHook(batches)


def test_a_model_without_backbone():
    runner = type(
        'Runner', (), dict(model=nn.Linear(1, 1), iter=0, train_dataloader=[], train_loop=None)
    )
    with pytest.raises(UserError, match='Linear has no backbone whose norms'):
        ReestimateNormsHook().before_train(runner)


class TwoStreams(BaseModel):
    """Of a siamese network on pairs of images, with a head that has a norm and a queue."""

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


def test_a_backbone_sees_what_its_model_gives_it_and_nothing_else_changes(backbones):
    torch.manual_seed(0)
    model = TwoStreams(backbones.ResNetMoD(**SMALL, norm_eval=True, frozen_stages=1))
    model.train()
    batches = [dict(inputs=torch.rand(4, 2, 3, 32, 32)) for _ in range(2)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    said = reestimate_norms(model, batches)
    assert said == '20 of 20 norms of encoder.shared'
    changed = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert changed == {name for name in before if name.startswith('enc') and 'running' in name}
    with torch.no_grad():  # the mean over what both streams give the first convolution
        network = model.encoder['shared']
        images = torch.cat([batch['inputs'].flatten(0, 1) for batch in batches])
        torch.testing.assert_close(network.bn1.running_mean, network.conv1(images).mean((0, 2, 3)))


def test_norms_with_an_eps_of_zero(backbones):
    """As of weights that were converted from Caffe; torch trains with none such."""
    norm_cfg = dict(type='BN', requires_grad=False, eps=0)
    network = backbones.ResNetMoD(**SMALL, norm_eval=True, norm_cfg=norm_cfg)
    before = statistics(network)
    reestimate_norms(network, [torch.rand(8, 3, 64, 64)], nn.Module.__call__)
    after = statistics(network)
    assert not any(torch.equal(after[name], before[name]) for name in after)
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert network.bn1.eps == 0


def test_a_backbone_that_a_loss_does_not_use_keeps_its_statistics(backbones):
    model = TwoStreams(backbones.ResNetMoD(**SMALL))
    model.unused = backbones.ResNetMoD(**SMALL)
    before = statistics(model.unused)
    assert reestimate_norms(model, [dict(inputs=torch.rand(4, 2, 3, 32, 32))]).startswith(
        '20 of 40'
    )
    assert all(torch.equal(t, before[name]) for name, t in statistics(model.unused).items())
