"""An exported file in the place of the part of a model that it was written from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import UserError
from .exported_file import ExportedFile
from .parts import BGR_TO_RGB, add_up, is_classifier, part_of, statistics, swaps_channels


@contextmanager
def substituted(model: nn.Module, file: ExportedFile) -> Iterator[None]:
    """Within it, a file computes what it holds; the model does the rest, such as the boxes.

    Args:
        model (nn.Module): Of the file's config, in eval mode; changed in place. What the file does
            not hold needs the checkpoint's weights.
        file (ExportedFile): Written by `tools/deployment/export.py`.

    Raises:
        UserError: If the file is of a network of another kind.
    """
    what = file.metadata['what']
    expected = part_of(model, what).names
    if file.names != list(expected):
        raise UserError(
            f'{file.path} was written from {file.metadata["config"]} and gives '
            f'{", ".join(file.names)}, where this model gives {", ".join(expected)}; test it with '
            'the config that it was written from'
        )
    methods = methods_of(model, what, inference(model, file))
    for module, name, method in methods:
        setattr(module, name, method)
    try:
        yield
    finally:
        for module, name, _ in methods:
            delattr(module, name)  # the class's own is there again


def methods_of(model: nn.Module, what: str, run: Callable) -> list[tuple[nn.Module, str, Callable]]:
    """Which methods of which modules give way, and to what."""
    if what == 'backbone':
        maps = lambda images: tuple(run(images).values())  # noqa: E731
        return (
            [(model.backbone, 'forward', maps)]
            if is_classifier(model)
            else [(model, 'extract_feat', maps)]
        )
    if is_classifier(model):
        shares = add_up(model)
        return [
            (model, 'extract_feat', lambda images: images),
            (model.head, 'forward', lambda images: logits_of(run(images)['scores'], shares)),
        ]
    if hasattr(model, 'encode_decode'):
        return [(model, 'encode_decode', lambda images, metas: run(images)['logits'])]
    return [
        (
            model,
            'predict',
            lambda images, samples, rescale=True: detect(model, run, images, samples, rescale),
        )
    ]


def logits_of(scores: Tensor, are_shares: bool) -> Tensor:
    """Logits whose softmax, or sigmoid, the scores are: the head computes that once more."""
    return scores.log() if are_shares else scores.logit()


def detect(model: nn.Module, run: Callable, images: Tensor, samples: list, rescale: bool) -> list:
    """What a detector's ``predict`` gives, by a file that takes one image at once."""
    from mmengine.structures import InstanceData

    results = []
    for image, sample in zip(images, samples, strict=True):
        found = run(image[None])
        # mmdetection clips to the image, the file to what it was padded to.
        height, width = sample.img_shape[:2]
        boxes = found['boxes']
        boxes = boxes.minimum(boxes.new_tensor([width, height] * 2))
        if rescale:
            boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
        results.append(InstanceData(bboxes=boxes, scores=found['scores'], labels=found['labels']))
    return model.add_pred_to_datasample(samples, results)


def inference(model: nn.Module, file: ExportedFile) -> Callable[[Tensor], dict[str, Tensor]]:
    """A function from normalised images, on any device, to what a file gives for them."""
    batch = file.metadata['shape'].split('x')[0]
    raw = file.metadata['normalized'] == 'no'

    def run(images: Tensor) -> dict[str, Tensor]:
        given = as_in_files(model, images) if raw else images
        outputs = [file(part)[0] for part in batches(given.cpu(), batch)]
        return {
            name: torch.cat([each[name] for each in outputs]).to(images.device)
            for name in file.names
        }

    if 'boxes' in file.names:
        return run
    # The last images of a full batch may be none of ours.
    return lambda images: {name: each[: len(images)] for name, each in run(images).items()}


def batches(images: Tensor, size: str) -> list[Tensor]:
    """Images in batches of the file's size, the last one filled up with its last image."""
    if not size.isdigit():
        return [images]
    missing = -len(images) % int(size)
    return list(torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]).split(int(size)))


def as_in_files(model: nn.Module, images: Tensor) -> Tensor:
    """Normalised images as they were, uint8; what was padded gets the mean."""
    mean, std = statistics(model)
    images = images if mean is None else images * std + mean
    images = images[:, BGR_TO_RGB] if swaps_channels(model) else images
    return images.round().clamp(0, 255).to(torch.uint8)
