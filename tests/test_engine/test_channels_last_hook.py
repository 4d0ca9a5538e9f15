"""The hook changes the memory format, not the results."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmcnnmod.engine import ChannelsLastHook
from mmcnnmod.errors import UserError


def test_weights_and_inputs_are_channels_last():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    x = torch.rand(2, 3, 6, 5)
    expected = model.backbone(x)
    ChannelsLastHook().before_train(SimpleNamespace(model=model))
    assert model.backbone[0].weight.is_contiguous(memory_format=torch.channels_last)
    seen = []
    model.backbone[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    torch.testing.assert_close(model.backbone(x), expected)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_model_without_backbone_raises_an_error():
    with pytest.raises(UserError, match='Linear has no backbone'):
        ChannelsLastHook().before_test(SimpleNamespace(model=nn.Linear(1, 1)))
