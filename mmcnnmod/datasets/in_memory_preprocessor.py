"""Augmentation and normalisation of batches of small images on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from ..deprecation import renamed_from
from ..errors import UserError


@MODELS.register_module()
@renamed_from(MODELS, 'ResidentDataPreprocessor')
class InMemoryDataPreprocessor(ClsDataPreprocessor):
    """``RandomCrop(padding)``, ``RandomFlip`` and mmpretrain's preprocessor, on the device.

    For batches of :class:`InMemoryDataset`; mmpretrain's preprocessor processes other batches. In
    training, one data sample contains all labels of the batch, which saves an object per image. The
    losses of the heads are the same as with one sample per label.

    Args:
        padding (int): Pixels of zeros to add on each side before a random crop of the original
            size. Defaults to 4, as usual for CIFAR.
        flip_prob (float): The probability of flipping an image. Defaults to 0.5.
        **kwargs: Arguments of ``ClsDataPreprocessor``: ``mean``, ``std``, ``to_rgb``,
            ``num_classes``.

    Raises:
        UserError: With ``batch_augments`` or ``to_onehot``, which need an object per image.
    """

    def __init__(self, padding: int = 4, flip_prob: float = 0.5, **kwargs) -> None:
        super().__init__(**kwargs)
        if self.to_onehot:
            raise UserError(
                'InMemoryDataPreprocessor takes neither batch_augments nor to_onehot; use the '
                "data set's own pipeline with ClsDataPreprocessor"
            )
        self.padding = padding
        self.flip_prob = flip_prob

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move a batch to the device, augment it in training, and normalise it.

        Args:
            data (dict): 'inputs' (N, 3, H, W) uint8 and 'labels' (N,).
            training (bool): Whether to augment. Defaults to False.

        Returns:
            dict: 'inputs', float32, and 'data_samples': one in training, otherwise N.
        """
        if 'labels' not in data:
            return super().forward(data, training)
        images, labels = (self.cast_data(data[key]) for key in ('inputs', 'labels'))
        if training:
            images = random_crop_flip(images, self.padding, self.flip_prob)
        normalised = super().forward(dict(inputs=images), training)['inputs']
        samples = [
            DataSample().set_gt_label(label)
            for label in ([labels] if training else labels.split(1))
        ]
        return dict(inputs=normalised, data_samples=samples)


def random_crop_flip(images: Tensor, padding: int, flip_prob: float) -> Tensor:
    """Pad with zeros, crop each image at a random position, and flip some images.

    Args:
        images (Tensor): Shape (N, C, H, W).
        padding (int): Pixels on each side. All offsets from 0 to 2 * padding are equally likely.
        flip_prob (float): The probability of flipping an image.

    Returns:
        Tensor: The images, of the same shape, in channels-last format.
    """
    n, _, height, width = images.shape
    device = images.device
    offsets = torch.randint(2 * padding + 1, (2, n, 1), device=device)
    rows = offsets[0] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(n, width)
    flipped = torch.rand(n, 1, device=device) < flip_prob
    columns = offsets[1] + torch.where(flipped, columns.flip(1), columns)
    padded = F.pad(images, (padding,) * 4)
    # Index tensors on both sides of the slice move the channels to the last axis.
    samples = torch.arange(n, device=device)[:, None, None]
    return padded[samples, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
