"""Training in mixed precision: 200 steps of each task, on pictures that are drawn here."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ..utils.blocks import TORCH

CLASSES = 3  # a square is red, green or blue
SIDE = 32


def draw(count):
    """Squares on noise; gives pictures, and what each task is to learn of them."""
    pictures = 0.3 * torch.rand(count, 3, SIDE, SIDE)
    colours = torch.randint(CLASSES, (count,))
    corners = torch.randint(SIDE // 2, (count, 2))
    maps = torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    for i, (x, y) in enumerate(corners.tolist()):
        square = (slice(y, y + SIDE // 2), slice(x, x + SIDE // 2))
        pictures[(i, colours[i], *square)] += 1
        maps[(i, *square)] = 1
    return pictures, dict(mmpretrain=colours, mmseg=maps, mmdet=corners / SIDE)


def loss_of(toolbox, head, feature, target):
    """Cross entropy of images and of pixels, and the distance of boxes; in float32."""
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
    losses, seen = [], set()
    backbone.layer1[0].conv1.register_forward_hook(lambda conv, x, out: seen.add(out.dtype))
    # oneDNN takes seconds for an fp16 convolution where the processor has no instructions for it.
    with torch.backends.mkldnn.flags(enabled=dtype != torch.float16):
        for step in range(200):
            pictures, targets = draw(8)
            with torch.autocast('cpu', dtype):
                (feature,) = backbone(pictures)
                loss = loss_of(toolbox, network[1], feature, targets[toolbox])
            optimizer.zero_grad()
            if scaler:  # it leaves out steps whose gradients overflow
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
    assert seen == {dtype}
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
