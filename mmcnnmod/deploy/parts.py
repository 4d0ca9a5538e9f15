"""What of a model goes into a file: images in, named tensors out."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..layers import ChannelSelector, MoDBlock, RandomSelector
from ..ops import fold_batch_norms

BGR_TO_RGB = [2, 1, 0]
SIDE = 256  # of an image that tells the stride


class Part(nn.Module):
    """A model, or its backbone, as a function from a batch of images to tensors.

    Args:
        model (nn.Module): Of a config of mmpretrain, mmseg or mmdet, in eval mode.
        raw (bool): Whether the images are as the data set gives them, uint8 from 0 to 255, and
            the data preprocessor's mean, deviation and channel order are part of the function.
            Defaults to False: they have been applied, the images are float32.
    """

    names: tuple[str, ...] = ()
    batches = True  # whether it computes several images at once

    def __init__(self, model: nn.Module, raw: bool = False) -> None:
        super().__init__()
        self.model = model
        self.raw = raw
        self.eval()  # all of it: exporters put the whole back into the root's own mode

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the file computes.

        Args:
            images (Tensor): Shape (N, 3, H, W).

        Returns:
            tuple[Tensor, ...]: In the order of ``names``.
        """
        return self.compute(self.normalize(images) if self.raw else images)

    def compute(self, images: Tensor) -> tuple[Tensor, ...]:
        """From normalised images to the outputs."""
        raise NotImplementedError

    def differences(
        self, expected: dict[str, Tensor], found: dict[str, Tensor]
    ) -> dict[str, float]:
        """How far outputs are from what they should be.

        Args:
            expected (dict[str, Tensor]): By name.
            found (dict[str, Tensor]): By name, of the same shapes.

        Returns:
            dict[str, float]: The largest difference of each, as a share of its largest value.
        """
        return {name: difference(found[name], expected[name]) for name in expected}

    def strays(self, expected: dict[str, Tensor], found: dict[str, Tensor]) -> tuple[int, int]:
        """How many things were found, and how many of them by one side only; here there are none.

        Args:
            expected (dict[str, Tensor]): By name.
            found (dict[str, Tensor]): By name.

        Returns:
            tuple[int, int]: Both numbers.
        """
        return 0, 0

    def normalize(self, images: Tensor) -> Tensor:
        """As the data preprocessor of the model does."""
        images = images.float()
        if swaps_channels(self.model):
            images = images[:, BGR_TO_RGB]
        mean, std = statistics(self.model)
        return images if mean is None else (images - mean) / std


class Maps(Part):
    """The feature maps of the backbone; of a segmentor or detector those of its neck."""

    def __init__(self, model: nn.Module, raw: bool = False, count: int = 1) -> None:
        super().__init__(model, raw)
        self.names = tuple(f'map{i}' for i in range(count))

    def compute(self, images: Tensor) -> tuple[Tensor, ...]:
        """Shape (N, C, H / stride, W / stride) each, the finest first."""
        return tuple(feature_maps(self.model, images))


class Scores(Part):
    """The class scores of a classifier."""

    names = ('scores',)

    def compute(self, images: Tensor) -> tuple[Tensor, ...]:
        """Shape (N, classes), each from 0 to 1; they add up to 1 unless labels may go together."""
        logits = self.model(images, mode='tensor')
        return (logits.softmax(1) if add_up(self.model) else logits.sigmoid(),)


class LabelMap(Part):
    """The logits of a segmentor at the images' size, and the label of every pixel."""

    names = ('logits', 'labels')

    def compute(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits, shape (N, classes, H, W), and labels, int64, shape (N, H, W)."""
        size = images.shape[2:]
        meta = dict(img_shape=size, pad_shape=size, ori_shape=size)
        logits = self.model.encode_decode(images, [meta])
        if logits.shape[1] > 1:
            return logits, logits.argmax(1)
        return logits, (logits.sigmoid() > self.model.decode_head.threshold)[:, 0].long()

    def differences(
        self, expected: dict[str, Tensor], found: dict[str, Tensor]
    ) -> dict[str, float]:
        """Of another label: how far its logit is from the decision, as a share of the largest."""
        logits = expected['logits']
        result = {'logits': difference(found['logits'], logits)}
        if found['labels'].shape != expected['labels'].shape:
            return {**result, 'labels': float('inf')}
        if logits.shape[1] > 1:
            gap = logits.amax(1) - logits.gather(1, found['labels'][:, None])[:, 0]
        else:
            threshold = torch.tensor(float(self.model.decode_head.threshold)).logit()
            gap = (logits[:, 0] - threshold).abs() * (found['labels'] != expected['labels'])
        return {**result, 'labels': (gap.max() / logits.abs().max()).item()}


def part_of(model: nn.Module, what: str, raw: bool = False) -> Part:
    """What of a model goes into a file.

    Args:
        model (nn.Module): In eval mode.
        what (str): 'model' or 'backbone'.
        raw (bool): See :class:`Part`.

    Returns:
        Part: It holds the model itself.

    Raises:
        UserError: If a model of this kind cannot be computed as a whole outside its toolbox, or
            channels are selected at random.
    """
    if any(isinstance(module, RandomSelector) for module in model.modules()):
        raise UserError(
            "selection='random' draws other channels at every call: there is nothing to compare an "
            "exported file with; export a network with selection='topk'"
        )
    if raw and not hasattr(model.data_preprocessor, 'mean') and not swaps_channels(model):
        raise UserError(
            f'the data preprocessor {type(model.data_preprocessor).__name__} has no mean, no '
            'deviation and no channel order to put into the file; leave --with-preprocessing out'
        )
    if what == 'backbone':
        return Maps(model, raw, len(maps_of(model)))
    if hasattr(model, 'encode_decode'):
        return LabelMap(model, raw)
    if is_classifier(model):
        return Scores(model, raw)
    reason = 'the model has no RPN head'
    if hasattr(model, 'rpn_head'):
        from .faster_rcnn import FasterRCNN, unsupported

        reason = unsupported(model)
    if reason:
        raise UserError(f'{type(model).__name__} cannot be exported as a whole: {reason}; its '
                        'feature maps can: --what backbone')  # fmt: skip
    return FasterRCNN(model, raw)


def is_classifier(model: nn.Module) -> bool:
    """Whether it is one of mmpretrain's classifiers with a head that gives logits."""
    return hasattr(model, 'head') and hasattr(model, 'get_layer_depth')


def add_up(classifier: nn.Module) -> bool:
    """Whether the scores of a classifier are a softmax, and not one sigmoid for each label."""
    return not any('MultiLabel' in base.__name__ for base in type(classifier.head).__mro__)


def feature_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """What the heads of a model read."""
    if is_classifier(model):  # whose neck pools the maps away
        return model.backbone(images)
    return model.extract_feat(images)


@torch.no_grad()
def maps_of(model: nn.Module) -> tuple[Tensor, ...]:
    """The feature maps of a small black image."""
    device = next(model.parameters()).device
    return feature_maps(model, torch.zeros(1, 3, SIDE, SIDE, device=device))


def stride_of(model: nn.Module) -> int:
    """How many pixels of an image lie, in a row, under one of its coarsest feature map."""
    # ConvNeXt's last may be pooled already; all its variants have this stride.
    return max([SIDE // each.shape[2] for each in maps_of(model) if each.dim() == 4] or [32])


def folded(part: Part) -> Part:
    """A copy whose backbone has its norms in its convolutions, on the CPU.

    It is the deployed form but for the operator, which no runtime knows.
    """
    part = deepcopy(part).cpu().requires_grad_(False)
    for module in part.modules():
        if isinstance(module, MoDBlock):
            fold_batch_norms(module.conv_block)
    fold_batch_norms(part.model.backbone)
    return part


def selectors(part: Part) -> dict[str, ChannelSelector]:
    """The channel selectors of a part by name, in the order of the computation."""
    return {
        name: module
        for name, module in part.model.named_modules()
        if isinstance(module, ChannelSelector)
    }


def statistics(model: nn.Module) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Mean and deviation of the data preprocessor, shape (3, 1, 1); None where it has none."""
    preprocessor = model.data_preprocessor
    return getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)


def swaps_channels(model: nn.Module) -> bool:
    """Whether the data preprocessor exchanges red and blue."""
    # mmengine's name for it, mmsegmentation's of 1.2 and mmpretrain's.
    names = ('_channel_conversion', 'channel_conversion', 'to_rgb')
    return any(getattr(model.data_preprocessor, name, False) for name in names)


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest value expected."""
    if found.shape != expected.shape:
        return float('inf')
    gap = (found.double() - expected.double()).abs().max().item()
    return gap / max(expected.abs().max().item(), 1e-30) if gap == gap else float('inf')
