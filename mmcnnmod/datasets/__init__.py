"""Data handling that all three toolboxes share."""

from .loading import CheckedLoading, name_unreadable_files

__all__ = ['CheckedLoading', 'name_unreadable_files']
