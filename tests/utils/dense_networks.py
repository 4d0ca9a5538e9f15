"""Helpers for tests that load the weights of dense networks into MoD networks."""

import torch
from mmengine.model import BaseModel
from torch import nn

from mmcnnmod.layers import MoDBlock

# Options of a small ResNet.
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
    """Set all tensors of a network to random values, so that no two are equal."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.dim() > 1:  # keeps the scale of activations
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.uniform_(0.5, 1.0, generator=generator)
            if name.endswith(('bias', 'running_mean')):
                tensor.sub_(0.75)
    return network


def add_prefix(prefix, state_dict):
    """Put a prefix before all names of a state dict."""
    return {prefix + name: tensor for name, tensor in state_dict.items()}


def init_cfg(path, state_dict, prefix='', kind='DensePretrained', **options):
    """Save a checkpoint; returns the init_cfg that loads it."""
    torch.save({'state_dict': add_prefix(prefix, state_dict)}, path)
    return dict(type=kind, checkpoint=str(path), **options)


def outputs(network, training=False):
    """The outputs for a fixed input."""
    network.train(training)
    torch.manual_seed(1)
    with torch.no_grad():
        out = network(torch.rand(2, 3, 64, 64))
    return out if isinstance(out, (tuple, list)) else (out,)


def without_mod_blocks(network):
    """Replace the MoD blocks of a network by the identity."""
    names = [name for name, module in network.named_modules() if isinstance(module, MoDBlock)]
    for name in names:
        container, _, key = name.rpartition('.')
        setattr(network.get_submodule(container), key, nn.Identity())
    return network


def copy_tensors(network):
    """A copy of the tensors of a network."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same_tensors(tensors, expected):
    """Assert that two state dicts have the same names and values."""
    assert set(tensors) == set(expected)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name]), name
