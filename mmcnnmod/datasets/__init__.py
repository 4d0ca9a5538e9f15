"""Data handling for all toolboxes: checked loading, classes in images, data sets in memory."""

from .in_memory import InMemoryDataset, whole_batch
from .loading import CheckedLoading, name_unreadable_files
from .occurrence import class_reader, draw_images, unwrap_dataset

__all__ = [
    'CheckedLoading',
    'InMemoryDataset',
    'class_reader',
    'draw_images',
    'name_unreadable_files',
    'unwrap_dataset',
    'whole_batch',
]
