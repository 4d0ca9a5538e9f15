"""Fixtures for the tests of hooks."""

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """Do not wait for the disk, which takes seconds when it is busy."""
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)


@pytest.fixture
def short_worker_timeout(monkeypatch):
    """How long torch waits for each worker of a loader that is garbage collected."""
    monkeypatch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.1)
