"""Run a model with an exported file in place of the part that the file was exported from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import UserError
from .exported_file import ExportedFile
from .parts import Outputs, part_of


@contextmanager
def substituted(model: nn.Module, file: ExportedFile) -> Iterator[None]:
    """Context in which an exported file computes its part of a model.

    Args:
        model (nn.Module): The model of the config that the file was exported from, in eval mode.
            Changed in place. Its other parts need the checkpoint's weights.
        file (ExportedFile): The file.

    Raises:
        UserError: If the file was exported from another kind of model.
    """
    part = part_of(model, file.metadata['what'])
    if file.names != list(part.names):
        raise UserError(
            f'{file.path} was exported with {file.metadata["config"]} and gives '
            f'{", ".join(file.names)}, but this model gives {", ".join(part.names)}; test it '
            'with the config that it was exported with'
        )

    def run(images: Tensor) -> Outputs:
        given = part.denormalize(images) if file.raw else images
        outputs = [file(batch)[0] for batch in file.batches(given.cpu())]
        found = {
            name: torch.cat([each[name] for each in outputs]).to(images.device)
            for name in file.names
        }
        if part.one_image:  # it returns boxes, not an output for each image
            return found
        return {name: output[: len(images)] for name, output in found.items()}

    replaced = part.replacements(run)
    for module, name, function in replaced:
        setattr(module, name, function)
    try:
        yield
    finally:
        for module, name, _ in replaced:
            delattr(module, name)  # the method of the class is visible again
