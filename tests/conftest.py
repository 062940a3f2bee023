"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root folder."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data folder, from `LFFD_SHARED`; tests that need it skip by name where it is missing."""
    folder = Path(os.environ.get("LFFD_SHARED", PROJECT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"the shared data folder is not at {folder}; set LFFD_SHARED")
    return folder
