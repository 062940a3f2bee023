"""The blocks of README and docs/ do what they say: they are executed, in the order of their page.

What is not executed as it stands is listed in `exceptions.py`, with the reason.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data_provider_farm import pack
from lffd import cli
from tests.conftest import PROJECT
from tests.documentation.blocks import PAGES, Block, commands, file_name, program, read_blocks
from tests.documentation.exceptions import LEFT_OUT, PARSED, SHORTENED, reason
from tests.documentation.running import environment, execute
from tests.documentation.workspace import make_workspace

SHELL, PYTHON, SHOWN = "bash", "python", "text"
BLOCKS = [block for page in PAGES for block in read_blocks(page)]
MISSING = [name for name in ("mxnet", "onnxruntime", "openvino", "ncnn") if importlib.util.find_spec(name) is None]
COMMANDS = [command for block in BLOCKS if block.language == SHELL for command in commands(block)]


def test_the_fences_say_what_is_in_them() -> None:
    assert {block.language for block in BLOCKS} <= {SHELL, PYTHON, SHOWN}


@pytest.mark.parametrize("start", [*SHORTENED, *PARSED, *LEFT_OUT])
def test_an_exception_is_needed(start: str) -> None:
    assert any(command.startswith(start) for command in COMMANDS)


def test_the_extras_exist() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = re.findall(r"^([\w-]+) = ", section, re.MULTILINE)  # CPython 3.10 has no reader of TOML
    named = re.findall(r"\.\[([\w,]+)\]", "".join((PROJECT / page).read_text() for page in PAGES))
    assert named
    assert {extra for names in named for extra in names.split(",")} <= set(extras)


def parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program of a command read its arguments, and stop it there."""
    import tyro

    real = tyro.cli

    def read(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise SystemExit(0)

    found = program(command)
    assert found, f"{command}: runs no program of ours"
    target, arguments = found
    monkeypatch.setattr(tyro, "cli", read)
    monkeypatch.setattr(sys, "argv", [target[-1], *arguments])
    if target[0] == "-m":
        start = partial(runpy.run_module, target[1], run_name="__main__", alter_sys=True)
    else:
        start = partial(runpy.run_path, str(PROJECT / target[0]), run_name="__main__")
    with pytest.raises(SystemExit) as stop:
        start()
    monkeypatch.undo()
    assert stop.value.code == 0, command


def run_shell(block: Block, folder: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute or parse the commands of a block."""
    script = []
    for command in commands(block):
        if reason(command, PARSED):
            parse(command, monkeypatch)
        elif not reason(command, LEFT_OUT):
            script.append(f"{command} {reason(command, SHORTENED) or ''}")
    if script:
        execute(str(block), ["bash", "-euo", "pipefail", "-c", "\n".join(script)], folder, variables)


def run_python(block: Block, folder: Path, variables: dict[str, str]) -> None:
    """Write a block to the file that it is, or execute it."""
    ast.parse(block.text)
    name = file_name(block)
    if name:
        (folder / name).write_text(block.text)
    else:
        execute(str(block), [sys.executable, "-c", block.text], folder, variables)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small packs of drawn faces, by the names that the pages give them."""
    folder = tmp_path_factory.mktemp("packs")
    for seed, (name, count) in enumerate((("train", "24"), ("val", "4"), ("more", "4"))):
        given = ["--format", "synthetic", "--count", count, "--size", "192", "--seed", str(seed), "--workers", "1"]
        with pytest.raises(SystemExit) as stop:
            cli.run(pack.main, [*given, "--output", str(folder / f"{name}.rec")])
        assert stop.value.code == 0
    return folder


@pytest.mark.skipif(bool(MISSING), reason=f"the pages use engines that are not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize("page", PAGES)
def test_blocks(page: str, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_workspace(tmp_path / "reader")
    variables = environment(tmp_path / "programs")
    text = (PROJECT / page).read_text()
    for path in packs.iterdir():
        if f"--output {path.stem}.rec" not in text:  # else a block of the page packs it
            (folder / path.name).hardlink_to(path)
    for block in read_blocks(page):
        if block.language == SHELL:
            run_shell(block, folder, variables, monkeypatch)
        elif block.language == PYTHON:
            run_python(block, folder, variables)
