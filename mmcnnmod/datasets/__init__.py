"""Data handling for all toolboxes: checked loading, classes in images, data kept in memory."""

from .loading import CheckedLoading, name_unreadable_files
from .occurrence import class_reader, draw_images, unwrap_dataset
from .resident import ResidentDataset, whole_batch

__all__ = [
    'CheckedLoading',
    'ResidentDataset',
    'class_reader',
    'draw_images',
    'name_unreadable_files',
    'unwrap_dataset',
    'whole_batch',
]
