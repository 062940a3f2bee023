"""The notebook runs from its first cell to its last: as a plain program, and in a kernel where one is installed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.documentation.running import environment, execute

NOTEBOOK = PROJECT / "docs/first_steps.ipynb"


def code_cells() -> list[str]:
    """Return the text of the notebook's cells of code."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def as_program(cell: str) -> str:
    """Return a cell as a plain program: a line that starts with `!` is a command."""
    lines = cell.replace("\\\n", " ").split("\n")
    return "\n".join(
        f"subprocess.run({line[1:]!r}, shell=True, check=True)" if line[:1] == "!" else line for line in lines
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like `docs/`."""
    shutil.copytree(PROJECT / "docs/examples", tmp_path / "examples")
    return tmp_path


def test_it_holds_no_results() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_as_a_program(folder: Path) -> None:
    program = "\n".join(["import subprocess", *map(as_program, code_cells())])
    execute(NOTEBOOK.name, [sys.executable, "-c", program], folder, environment(folder / "programs"))
    assert (folder / "found.jpg").stat().st_size > 10_000
    assert (folder / "runs/first_steps/model/model.params").exists()


def test_in_a_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first result must show itself as a picture."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    for name, value in environment(folder / "programs").items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "image/png" in first.outputs[-1].data
