"""Fixtures for the tests of hooks."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """Do not wait for the disk, which takes seconds when it is busy."""
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)
