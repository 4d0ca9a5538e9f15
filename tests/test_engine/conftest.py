"""Fixtures for the tests of hooks."""

import os

import pytest


@pytest.fixture(autouse=True)
def sync_at_once(monkeypatch):
    """Do not wait for the disk, which takes seconds when it is busy."""
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)
