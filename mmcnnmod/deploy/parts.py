"""The exportable parts of a model: functions from a batch of images to named tensors."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..layers import ChannelSelector, MoDBlock, RandomSelector
from ..ops import fold_batch_norms

BGR_TO_RGB = [2, 1, 0]
SIDE = 256  # of the image that the stride is measured on

Outputs = dict[str, Tensor]  # by name
Run = Callable[[Tensor], Outputs]  # from normalised images, shape (N, 3, H, W), to outputs
Replacements = list[tuple[nn.Module, str, Callable]]  # modules, names of methods, functions


class Part(nn.Module):
    """A model, or its backbone, as a function from a batch of images to tensors.

    Args:
        model (nn.Module): A model of mmpretrain, mmseg or mmdet, in eval mode.
        raw (bool): Whether it takes uint8 images from 0 to 255, as the data set returns them, and
            applies the data preprocessor's mean, standard deviation and channel order itself.
            Defaults to False: it takes normalised float32 images.
    """

    names: tuple[str, ...] = ()  # of the outputs
    one_image = False  # whether it takes batches of one image only

    def __init__(self, model: nn.Module, raw: bool = False) -> None:
        super().__init__()
        self.model = model
        self.raw = raw
        self.eval()  # exporters set all modules to the mode of the root module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs, in the order of ``names``, for images of shape (N, 3, H, W)."""
        return self.compute(self.normalize(images) if self.raw else images)

    def compute(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs for normalised images."""
        raise NotImplementedError

    def replacements(self, run: Run) -> Replacements:
        """Functions to call instead of methods, so that the model's outputs come from ``run``."""
        raise NotImplementedError

    def differences(self, expected: Outputs, found: Outputs) -> dict[str, float]:
        """The largest difference of each output, as a share of its largest expected value."""
        return {name: difference(found[name], expected[name]) for name in expected}

    def unmatched(self, expected: Outputs, found: Outputs) -> tuple[int, int]:
        """The number of detected boxes, and how many of them only one side has."""
        return 0, 0

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise images as the model's data preprocessor does."""
        images = images.float()
        if swaps_channels(self.model):
            images = images[:, BGR_TO_RGB]
        mean, std = statistics(self.model)
        return images if mean is None else (images - mean) / std

    def denormalize(self, images: Tensor) -> Tensor:
        """Turn normalised images back into uint8; padding becomes the mean."""
        mean, std = statistics(self.model)
        images = images if mean is None else images * std + mean
        images = images[:, BGR_TO_RGB] if swaps_channels(self.model) else images
        return images.round().clamp(0, 255).to(torch.uint8)


class Maps(Part):
    """The feature maps of a classifier's backbone, or of another model's backbone and neck."""

    def __init__(self, model: nn.Module, raw: bool = False) -> None:
        super().__init__(model, raw)
        self.names = tuple(f'map{i}' for i in range(len(example_maps(model))))

    def compute(self, images: Tensor) -> tuple[Tensor, ...]:
        """Shape (N, C, H / stride, W / stride) each, the finest first."""
        return tuple(feature_maps(self.model, images))

    def replacements(self, run: Run) -> Replacements:
        """See :class:`Part`."""
        model = self.model
        replaced = (model.backbone, 'forward') if is_classifier(model) else (model, 'extract_feat')
        return [(*replaced, lambda images: tuple(run(images).values()))]


class Scores(Part):
    """The class scores of a classifier."""

    names = ('scores',)

    def compute(self, images: Tensor) -> tuple[Tensor, ...]:
        """Shape (N, classes), from 0 to 1; they add up to 1 unless there are several labels."""
        logits = self.model(images, mode='tensor')
        return (logits.sigmoid() if self.is_multi_label() else logits.softmax(1),)

    def replacements(self, run: Run) -> Replacements:
        """See :class:`Part`; the head gets logits, from which it computes the scores again."""

        def logits(images: Tensor) -> Tensor:
            scores = run(images)['scores']
            return scores.logit() if self.is_multi_label() else scores.log()

        return [
            (self.model, 'extract_feat', lambda images: images),
            (self.model.head, 'forward', logits),
        ]

    def is_multi_label(self) -> bool:
        """Whether the scores are one sigmoid for each label, not a softmax."""
        return any('MultiLabel' in base.__name__ for base in type(self.model.head).__mro__)


class LabelMap(Part):
    """The logits of a segmentor at the size of the image, and the label of every pixel."""

    names = ('logits', 'labels')

    def compute(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits, shape (N, classes, H, W), and labels, int64, shape (N, H, W)."""
        size = images.shape[2:]
        meta = dict(img_shape=size, pad_shape=size, ori_shape=size)
        logits = self.model.encode_decode(images, [meta])
        if logits.shape[1] > 1:
            return logits, logits.argmax(1)
        return logits, (logits.sigmoid() > self.model.decode_head.threshold)[:, 0].long()

    def replacements(self, run: Run) -> Replacements:
        """See :class:`Part`."""
        return [(self.model, 'encode_decode', lambda images, metas: run(images)['logits'])]

    def differences(self, expected: Outputs, found: Outputs) -> dict[str, float]:
        """As :class:`Part`; of labels, how far the logit of a different label is below the best."""
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
    """Select the part of a model to export.

    Args:
        model (nn.Module): In eval mode. It is not copied.
        what (str): 'model' or 'backbone'.
        raw (bool): See :class:`Part`. Defaults to False.

    Raises:
        UserError: If this kind of model can only be exported as a backbone, has no preprocessing
            to export, or selects channels at random.
    """
    if any(isinstance(module, RandomSelector) for module in model.modules()):
        raise UserError(
            "a network with selection='random' cannot be compared with an exported file, because "
            "each call selects other channels; export one with selection='topk'"
        )
    if raw and not hasattr(model.data_preprocessor, 'mean') and not swaps_channels(model):
        raise UserError(
            f'the data preprocessor {type(model.data_preprocessor).__name__} has no mean, '
            'deviation and channel order to export; remove --with-preprocessing'
        )
    if what == 'backbone':
        return Maps(model, raw)
    if hasattr(model, 'encode_decode'):
        return LabelMap(model, raw)
    if is_classifier(model):
        return Scores(model, raw)
    reason = 'the model has no RPN head'
    if hasattr(model, 'rpn_head'):
        from .faster_rcnn import FasterRCNN, unsupported

        reason = unsupported(model)
        if not reason:
            return FasterRCNN(model, raw)
    raise UserError(
        f'{type(model).__name__} cannot be exported as a whole: {reason}; its feature maps can: '
        '--what backbone'
    )


def is_classifier(model: nn.Module) -> bool:
    """Whether it is one of mmpretrain's classifiers with a head that returns logits."""
    return hasattr(model, 'head') and hasattr(model, 'get_layer_depth')


def feature_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """The feature maps that the heads of a model read; a classifier's neck pools them."""
    return model.backbone(images) if is_classifier(model) else model.extract_feat(images)


@torch.no_grad()
def example_maps(model: nn.Module) -> tuple[Tensor, ...]:
    """The feature maps of a black image of SIDE x SIDE pixels."""
    device = next(model.parameters()).device
    return feature_maps(model, torch.zeros(1, 3, SIDE, SIDE, device=device))


def stride_of(model: nn.Module) -> int:
    """The stride of the coarsest feature map."""
    # ConvNeXt's last may be pooled already; all its variants have a stride of 32.
    return max([SIDE // each.shape[2] for each in example_maps(model) if each.dim() == 4] or [32])


def folded(part: Part) -> Part:
    """The copy to export, on the CPU and with the backbone's norms folded.

    It is the deployed form without the operator, which other runtimes do not have.
    """
    part = deepcopy(part).cpu().requires_grad_(False)
    for module in part.modules():
        if isinstance(module, MoDBlock):
            fold_batch_norms(module.conv_block)
    fold_batch_norms(part.model.backbone)
    return part


def selectors(part: Part) -> dict[str, ChannelSelector]:
    """The channel selectors of a part by name, in the order in which they run."""
    return {
        name: module
        for name, module in part.model.named_modules()
        if isinstance(module, ChannelSelector)
    }


def statistics(model: nn.Module) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Mean and standard deviation of the data preprocessor, shape (3, 1, 1), or None twice."""
    preprocessor = model.data_preprocessor
    return getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)


def swaps_channels(model: nn.Module) -> bool:
    """Whether the data preprocessor swaps red and blue."""
    # The names of mmengine, mmsegmentation 1.2 and mmpretrain.
    names = ('_channel_conversion', 'channel_conversion', 'to_rgb')
    return any(getattr(model.data_preprocessor, name, False) for name in names)


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest expected value."""
    if found.shape != expected.shape:
        return float('inf')
    gap = (found.double() - expected.double()).abs().max().item()
    return gap / max(expected.abs().max().item(), 1e-30) if gap == gap else float('inf')
