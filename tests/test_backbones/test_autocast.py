"""Training in mixed precision: 200 steps of each task on synthetic images."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ..utils.blocks import TORCH

CLASSES = 3  # red, green or blue squares
SIDE = 32


def draw(count):
    """Images of coloured squares on noise, and the targets of each task."""
    images = 0.3 * torch.rand(count, 3, SIDE, SIDE)
    colours = torch.randint(CLASSES, (count,))
    corners = torch.randint(SIDE // 2, (count, 2))
    maps = torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    for i, (x, y) in enumerate(corners.tolist()):
        square = (slice(y, y + SIDE // 2), slice(x, x + SIDE // 2))
        images[(i, colours[i], *square)] += 1
        maps[(i, *square)] = 1
    return images, dict(mmpretrain=colours, mmseg=maps, mmdet=corners / SIDE)


def compute_loss(toolbox, head, feature, target):
    """In float32: cross entropy of images or pixels, or the L1 distance of corners."""
    out = head(feature)
    if toolbox == 'mmseg':
        return F.cross_entropy(F.interpolate(out.float(), (SIDE, SIDE)), target)
    out = out.float().mean((2, 3))
    return F.cross_entropy(out, target) if toolbox == 'mmpretrain' else F.l1_loss(out, target)


@pytest.mark.slow
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_200_steps_under_autocast(toolbox, backbones, dtype):
    if dtype == torch.float16 and TORCH < (2, 4):
        pytest.skip('this torch has no fp16 on CPU')
    torch.manual_seed(0)
    backbone = backbones.ResNetMoD(
        depth=18, base_channels=16, stem_channels=16, strides=(1, 2, 1, 1), out_indices=(3,)
    )  # its last map has 4x4 pixels
    backbone.init_weights()
    outputs = dict(mmpretrain=CLASSES, mmseg=2, mmdet=2)[toolbox]
    network = nn.ModuleList([backbone.train(), nn.Conv2d(128, outputs, 1)])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler('cpu', enabled=True) if dtype == torch.float16 else None
    losses, dtypes = [], set()
    backbone.layer1[0].conv1.register_forward_hook(lambda conv, x, out: dtypes.add(out.dtype))
    # Without fp16 instructions, oneDNN takes seconds for an fp16 convolution.
    with torch.backends.mkldnn.flags(enabled=dtype != torch.float16):
        for step in range(200):
            images, targets = draw(8)
            with torch.autocast('cpu', dtype):
                (feature,) = backbone(images)
                loss = compute_loss(toolbox, network[1], feature, targets[toolbox])
            optimizer.zero_grad()
            if scaler:  # skips steps whose gradients overflow
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            else:
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
            assert torch.isfinite(loss), f'step {step}'
            for name, tensor in network.state_dict().items():
                assert torch.isfinite(tensor).all(), f'step {step}: {name}'
    assert dtypes == {dtype}
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
