"""Networks with weights that tell where each of them went."""

import torch
from mmengine.model import BaseModel
from torch import nn

from mmcnnmod.layers import MoDBlock

# Of a ResNet.
SMALL = dict(base_channels=16, stem_channels=16, out_indices=(0, 1, 2, 3))


class WholeModel(BaseModel):
    """A model with a backbone and a head."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(3, 2)

    def forward(self, inputs):
        return self.backbone(inputs)


def randomized(network, seed=0):
    """Draw all tensors of a network at random, so that no two are equal."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.dim() > 1:  # keeps the scale of activations
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.uniform_(0.5, 1.0, generator=generator)
            if name.endswith(('bias', 'running_mean')):
                tensor.sub_(0.75)
    return network


def init_cfg(path, state_dict, prefix='', kind='DensePretrained', **options):
    """Save a checkpoint; returns the init_cfg that loads it."""
    torch.save({'state_dict': {prefix + name: v for name, v in state_dict.items()}}, path)
    return dict(type=kind, checkpoint=str(path), **options)


def outputs(network, training=False, side=64):
    """The outputs for a fixed input."""
    network.train(training)
    torch.manual_seed(1)
    with torch.no_grad():
        out = network(torch.rand(2, 3, side, side))
    return out if isinstance(out, (tuple, list)) else (out,)


def without_mod_blocks(network):
    """Replace the MoD blocks of a network by the identity."""
    names = [n for n, module in network.named_modules() if isinstance(module, MoDBlock)]
    for name in names:
        replace(network, name, nn.Identity())
    return network


def replace(network, name, module):
    """Put another module in the place of the one with this name."""
    container, _, key = name.rpartition('.')
    setattr(network.get_submodule(container), key, module)


def copied(network):
    """The tensors of a network as they are now."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_equal(tensors, others):
    """Both have the same names and values."""
    assert set(tensors) == set(others)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name
