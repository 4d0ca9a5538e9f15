"""Data handling that all three toolboxes share."""

from .loading import CheckedLoading, name_unreadable_files
from .occurrence import class_reader, draw_images, unwrap_dataset

__all__ = [
    'CheckedLoading',
    'class_reader',
    'draw_images',
    'name_unreadable_files',
    'unwrap_dataset',
]
