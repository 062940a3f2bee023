"""A version in a file of the user's own, outside the source: `my_version.py` with a `NETWORK`.

The file is Python and runs. So only what a user names as a version reaches this module: nothing that is read from a
model directory, a checkpoint or a pack ever names a file to run, and what is trained from such a file carries its whole
graph and declaration along.
"""

from __future__ import annotations

import runpy
import traceback
from pathlib import Path
from typing import Any

from lffd.errors import UsageError
from lffd.graphs.network import Network


def is_version_file(name: str) -> bool:
    """Say whether a version is named by its file."""
    return name.endswith(".py")


def run_version_file(name: str) -> dict[str, Any]:
    """Run a file and return its names, among them `NETWORK`, a `Network`.

    Raises:
        UsageError: when there is no such file, it fails (with its line), or it declares no network.
    """
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{name}: there is no such file; a version of your own is a Python file with a NETWORK")
    try:
        found = runpy.run_path(name)
    except Exception as error:  # the user's own code may raise anything
        own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
        line = error.lineno if isinstance(error, SyntaxError) else own[-1] if own else None
        raise UsageError(f"{name}:{line or 1}: {type(error).__name__}: {error}") from error
    if not isinstance(found.get("NETWORK"), Network):
        raise UsageError(f"{name}: declares no network: it needs NETWORK = lffd_network(…), or another Network")
    return found
