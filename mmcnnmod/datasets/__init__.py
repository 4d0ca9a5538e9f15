"""Data handling that all three toolboxes share, in mmengine's own registries."""

from .loading import LoadCompleteImageFromFile

__all__ = ['LoadCompleteImageFromFile']
