"""What every test of this folder promises."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """No thread of a loader or a scan outlives its test."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("lffd")]
    assert not left
