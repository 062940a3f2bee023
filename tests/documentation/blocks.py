"""The fenced blocks of README and docs/, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import PROJECT

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its page, the line of its fence, its language, and what is in it."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page, given its path in the project."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        indent, language, body = found.groups()
        lines = [line.removeprefix(indent) for line in body.splitlines()]
        yield Block(page, text.count("\n", 0, found.start()) + 1, language, "\n".join(lines) + "\n")


def without_code(page: str) -> str:
    """Return a page without its fenced blocks and its code in backticks."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    return re.sub(r"`[^`]*`", "", FENCE.sub("", text))


def commands(block: Block) -> Iterator[str]:
    """Yield the commands of a shell block: one a line, continued lines joined, spaces single, comments left out."""
    for line in re.sub(r"\s*\\\n\s*", " ", block.text).splitlines():
        command = re.sub(r"(^|\s)#\s.*", "", line).strip()
        if command:
            yield re.sub(r" +", " ", command)


def program(command: str) -> tuple[list[str], list[str]] | None:
    """Return `["-m", MODULE]` or `[SCRIPT]` of the Python program that a command ends in, and its arguments."""
    words = shlex.split(command)
    for number, word in enumerate(words):
        if word == "lffd":
            return ["-m", "lffd"], words[number + 1 :]
        if word == "-m" and words[number - 1] == "python":
            return words[number : number + 2], words[number + 2 :]
        if word.endswith(".py") and not words[number - 1].startswith("--"):
            return [word], words[number + 1 :]
    return None


def file_name(block: Block) -> Path | None:
    """Return the name of the file that a Python block is, when its first line is `# NAME.py` alone."""
    found = re.match(r"# (\w+\.py)\n", block.text)
    return Path(found[1]) if found else None
