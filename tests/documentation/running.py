"""Programs of the documentation, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT


def environment(programs: Path) -> dict[str, str]:
    """Return the environment of a reader who has installed this clone, given an empty folder for its command.

    The command starts this clone, whatever is installed.
    """
    programs.mkdir()
    command = programs / "lffd"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m lffd "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    modules = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PATH": path, "PYTHONPATH": modules, "OMP_NUM_THREADS": "1"}


def execute(where: str, arguments: list[str], folder: Path, variables: dict[str, str]) -> None:
    """Run a program in a folder; one that fails fails the test with all that it said."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{where}: exit code {done.returncode}\n{arguments[-1]}\n{done.stdout}"
