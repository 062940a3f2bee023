"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
import sysconfig
import venv
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


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the libraries of the one that runs the tests, but for MXNet, and without this project.

    Its environment has one `.pth` file, which names the folder of the libraries: files of that kind in there, such as
    the one of an editable install, do not count then.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = next(folder.glob("lib/python*/site-packages"))
    text = f"{sysconfig.get_path('purelib')}\nimport sys; sys.modules['mxnet'] = None\n"
    (site / "libraries.pth").write_text(text)
    return python


@pytest.fixture(scope="session")
def outside() -> dict[str, str]:
    """The environment of programs that are to find no module of this clone by `PYTHONPATH`."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
