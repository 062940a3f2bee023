"""The Dockerfile installs what the pages say. It is read, not built: a build needs a daemon and the network."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.conftest import PROJECT

INSTALL = "pip install ."
QUIET = ("--no-cache-dir", "--root-user-action=ignore")


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile and their arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    words = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(rest).strip()) for name, *rest in words]


STEPS = instructions(PROJECT / "Dockerfile")


def test_every_step_is_one_that_is_known() -> None:
    assert STEPS[0][0] == "FROM"
    assert {name for name, _ in STEPS} == {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT"}
    assert all(argument for _, argument in STEPS)


def test_it_installs_as_the_page_says() -> None:
    run = [
        " ".join(word for word in argument.split() if word not in QUIET) for name, argument in STEPS if name == "RUN"
    ]
    assert run == [INSTALL]
    assert f"\n{INSTALL} " in (PROJECT / "docs/install.md").read_text()


def test_its_python_is_one_that_the_package_takes() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    found = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', project)
    image = re.fullmatch(r"python:3\.(\d+)-slim", STEPS[0][1])
    assert found
    assert image
    assert int(found[1]) <= int(image[1]) < int(found[2])


def test_it_starts_the_command() -> None:
    (entry,) = [json.loads(argument) for name, argument in STEPS if name == "ENTRYPOINT"]
    project = (PROJECT / "pyproject.toml").read_text()
    assert f"\n{entry[0]} = " in project.partition("[project.scripts]")[2].partition("\n[")[0]


def test_all_that_the_package_is_made_of_is_sent() -> None:
    """`.dockerignore` leaves out everything but what it names: packages, models, and what builds the wheel."""
    lines = (PROJECT / ".dockerignore").read_text().split()
    sent = {line[1:] for line in lines if line.startswith("!")}
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    assert lines[0] == "*"
    assert packages | {"models", "pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"} == sent
