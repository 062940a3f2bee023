"""Blocks of numbers in text files: what the result files of WIDER FACE and FDDB and FDDB's annotations are made of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections
from lffd.errors import DataError
from lffd.untrusted import read_text


def corner_and_sides(detections: Detections) -> NDArray[np.float64]:
    """Return `(N, 5)` float64 rows `x, y, width, height, score`."""
    boxes = detections.boxes.astype(np.float64)
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], detections.scores])


def format_block(name: str, rows: NDArray[Any], pattern: str) -> str:
    """Return a block under its name: the number of rows, then each row by `pattern`."""
    return "\n".join([name, str(len(rows)), *(pattern % tuple(row) for row in rows.tolist()), ""])


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return a text file's lines without their ends; empty lines at the end are dropped.

    Raises:
        DataError: when the file cannot be read, or is not text.
    """
    lines = read_text(path).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def parse_block(
    path: str | os.PathLike[str], lines: Sequence[str], start: int, columns: Sequence[int]
) -> tuple[NDArray[np.float64], int]:
    """Read a block from the lines of a file: at `start` the number of rows, then rows of one of the widths `columns`.

    Returns:
        The rows, `(N, columns)` float64 (`(0, columns[0])` for none), and the index of the line after the block.

    Raises:
        DataError: naming the line: no number, too few rows, a row of another width, not a finite number.
    """
    text = lines[start].strip() if start < len(lines) else ""
    if not text.isdecimal():
        raise DataError(f"{path}:{start + 1}: expected the number of rows that follow, found {text[:40]!r}")
    first, count = start + 1, int(text) if len(text) <= 18 else len(lines)
    if count > len(lines) - first:
        raise DataError(f"{path}:{start + 1}: says {text[:40]} rows, but the file ends after {len(lines) - first}")
    if not count:
        return np.zeros((0, columns[0])), first
    return _parse_rows(path, lines[first : first + count], first, columns), first + count


def _parse_rows(
    path: str | os.PathLike[str], rows: Sequence[str], first: int, columns: Sequence[int]
) -> NDArray[np.float64]:
    """Return rows of text as one array; the fast way first, the line by line search for the fault only after."""
    width = len(rows[0].split())
    words = " ".join(rows).split()
    if width in columns and len(words) == width * len(rows):
        with suppress(ValueError):  # the search below names the line
            table = np.array(words, np.float64).reshape(len(rows), width)
            if np.isfinite(table).all():
                return table
    for number, row in enumerate(rows, first + 1):
        if (found := len(row.split())) != width or found not in columns:
            wanted = width if width in columns else " or ".join(map(str, columns))
            raise DataError(f"{path}:{number}: expected {wanted} numbers, found {found}: {row[:80]!r}")
        for word in row.split():
            value = float("nan")
            with suppress(ValueError):
                value = float(word)
            if not np.isfinite(value):
                raise DataError(f"{path}:{number}: {word[:40]!r} is not a finite number")
    raise DataError(f"{path}:{first + 1}: this block of {len(rows)} rows cannot be read as numbers")
